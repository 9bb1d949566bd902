// sk.lstm on the CPU.
#include "cell.h"
#include "recurrence.h"

namespace s2s::cpu {

Tensors lstm_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&, bool reverse,
                     bool save) {
  return recurrence_forward(kLstm, inputs, lengths, reverse, save);
}

Tensors lstm_backward(const OptionalTensors& grads, const OptionalTensors& inputs, const OptionalTensor& lengths,
                      const OptionalTensor&, bool reverse, at::TensorList outputs, const c10::List<bool>& needs) {
  return recurrence_backward(kLstm, grads, inputs, lengths, reverse, outputs, needs);
}

}  // namespace s2s::cpu
