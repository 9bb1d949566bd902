// sk.gru on the CPU.
#include "cell.h"
#include "recurrence.h"

namespace s2s::cpu {

Tensors gru_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&, bool reverse,
                    bool save) {
  return recurrence_forward(kGru, inputs, lengths, reverse, save);
}

Tensors gru_backward(const OptionalTensors& grads, const OptionalTensors& inputs, const OptionalTensor& lengths,
                     const OptionalTensor&, bool reverse, at::TensorList outputs, const c10::List<bool>& needs) {
  return recurrence_backward(kGru, grads, inputs, lengths, reverse, outputs, needs);
}

}  // namespace s2s::cpu
