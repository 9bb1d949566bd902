// The attention decoder over a whole sequence, on either cell: attention_gru.cpp and attention_lstm.cpp name it.
#pragma once

#include "../ops.h"

namespace s2s::cpu {

Tensors attention_recurrence_forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths,
                                     const OptionalTensor& mask, bool save);
Tensors attention_recurrence_backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                                      const OptionalTensor& lengths, const OptionalTensor& mask, at::TensorList outputs,
                                      const c10::List<bool>& needs);

}  // namespace s2s::cpu
