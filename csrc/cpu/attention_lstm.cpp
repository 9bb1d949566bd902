// sk.attention_lstm on the CPU.
#include "attention_recurrence.h"
#include "cell.h"

namespace s2s::cpu {

Tensors attention_lstm_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                               bool, bool save) {
  return attention_recurrence_forward(kLstm, inputs, lengths, mask, save);
}

Tensors attention_lstm_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                const OptionalTensor& lengths, const OptionalTensor& mask, bool, at::TensorList outputs,
                                const c10::List<bool>& needs) {
  return attention_recurrence_backward(kLstm, grads, inputs, lengths, mask, outputs, needs);
}

}  // namespace s2s::cpu
