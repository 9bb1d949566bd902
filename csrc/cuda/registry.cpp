// What the dispatcher runs on CUDA tensors.
#include <torch/library.h>

#include "../beam_search.h"
#include "ops.h"

namespace s2s::cuda {

TORCH_LIBRARY_IMPL(s2s_kernels, CUDA, m) {
  m.impl("additive_attention", TORCH_FN(additive_attention));
  m.impl("additive_attention_backward", TORCH_FN(additive_attention_backward));
  m.impl("gru_step", TORCH_FN(gru_step));
  m.impl("gru_step_backward", TORCH_FN(gru_step_backward));
  m.impl("lstm_step", TORCH_FN(lstm_step));
  m.impl("lstm_step_backward", TORCH_FN(lstm_step_backward));
  m.impl("beam_search", TORCH_FN(s2s::beam_search<beam_search>));
  m.impl("gru_forward", TORCH_FN(gru_forward));
  m.impl("gru_backward", TORCH_FN(gru_backward));
  m.impl("lstm_forward", TORCH_FN(lstm_forward));
  m.impl("lstm_backward", TORCH_FN(lstm_backward));
  m.impl("attention_gru_forward", TORCH_FN(attention_gru_forward));
  m.impl("attention_gru_backward", TORCH_FN(attention_gru_backward));
  m.impl("attention_lstm_forward", TORCH_FN(attention_lstm_forward));
  m.impl("attention_lstm_backward", TORCH_FN(attention_lstm_backward));
  m.impl("gru_bidirectional_forward", TORCH_FN(gru_bidirectional_forward));
  m.impl("gru_bidirectional_backward", TORCH_FN(gru_bidirectional_backward));
  m.impl("lstm_bidirectional_forward", TORCH_FN(lstm_bidirectional_forward));
  m.impl("lstm_bidirectional_backward", TORCH_FN(lstm_bidirectional_backward));
}

}  // namespace s2s::cuda
