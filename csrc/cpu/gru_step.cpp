// One GRU step: elementwise over (B, H).
#include "step.h"

namespace s2s::cpu {

Tensor gru_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  return std::get<0>(step_forward(kGru, {kGru, gates_x, gates_h, "h", h, to_compute}));
}

Three gru_step_backward(const Tensor& grad_h, const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  check_optional("grad_h", grad_h, h.sizes(), h);
  return step_backward(kGru, {kGru, gates_x, gates_h, "h", h, to_compute}, grad_h, {});
}

}  // namespace s2s::cpu
