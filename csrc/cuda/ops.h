// The ops of ../ops.h as CUDA implements them: the same signatures as cpu's.
#pragma once

#include "../ops.h"

namespace s2s::cuda {

decltype(cpu::additive_attention) additive_attention;
decltype(cpu::additive_attention_backward) additive_attention_backward;
decltype(cpu::gru_step) gru_step;
decltype(cpu::gru_step_backward) gru_step_backward;
decltype(cpu::lstm_step) lstm_step;
decltype(cpu::lstm_step_backward) lstm_step_backward;
decltype(cpu::beam_search) beam_search;
RecurrenceForward gru_forward, lstm_forward, attention_gru_forward, attention_lstm_forward, gru_bidirectional_forward,
    lstm_bidirectional_forward;
RecurrenceBackward gru_backward, lstm_backward, attention_gru_backward, attention_lstm_backward,
    gru_bidirectional_backward, lstm_bidirectional_backward;

}  // namespace s2s::cuda
