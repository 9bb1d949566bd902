// One LSTM step: elementwise over (B, H).
#include "step.h"

namespace s2s::cpu {

Two lstm_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c) {
  return step_forward(kLstm, {kLstm, gates_x, gates_h, "c", c, to_compute});
}

Two lstm_step_backward(const OptionalTensor& grad_h, const OptionalTensor& grad_c, const Tensor& gates_x,
                       const Tensor& gates_h, const Tensor& c) {
  check_optional("grad_h", grad_h, c.sizes(), c);
  check_optional("grad_c", grad_c, c.sizes(), c);
  auto [grad_gates, none, grad] = step_backward(kLstm, {kLstm, gates_x, gates_h, "c", c, to_compute}, grad_h, grad_c);
  return {grad_gates, grad};
}

}  // namespace s2s::cpu
