// A GRU or LSTM over a whole sequence: gru.cpp and lstm.cpp name it.
#pragma once

#include "../ops.h"

namespace s2s::cpu {

Tensors recurrence_forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, bool reverse,
                           bool save);
Tensors recurrence_backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                            const OptionalTensor& lengths, bool reverse, at::TensorList outputs,
                            const c10::List<bool>& needs);

}  // namespace s2s::cpu
