// One GRU step on a GPU.
#include "../checks.h"
#include "cell.cuh"
#include "glue.h"
#include "ops.h"

namespace s2s::cuda {

Tensor gru_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  c10::DeviceGuard guard(h.device());
  check_dim("h", h, 2, 2);
  int64_t batch = h.size(0), hidden = h.size(1);
  check_like("h", h, {batch, hidden}, h);
  check_like("gates_x", gates_x, {batch, 3 * hidden}, h);
  check_like("gates_h", gates_h, {batch, 3 * hidden}, h);
  Tensor x = contiguous(gates_x), g = contiguous(gates_h), state = contiguous(h);
  Tensor out = at::empty({batch, hidden}, h.options());
  StepForward a{batch, hidden, data(x), data(g), data(state), data(out), nullptr};
  step_forward(kGru, a, type_of(h), current_stream(h));
  return out;
}

Three gru_step_backward(const Tensor& grad_h, const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  c10::DeviceGuard guard(h.device());
  int64_t batch = h.size(0), hidden = h.size(1);
  Tensor x = contiguous(gates_x), g = contiguous(gates_h), state = contiguous(h), grad = contiguous(grad_h);
  Tensor grad_x = at::empty(x.sizes(), h.options()), grad_g = at::empty(x.sizes(), h.options());
  Tensor grad_state = at::empty({batch, hidden}, h.options());
  StepBackward a{batch,      hidden,  data(x),      data(g),      data(state),
                 data(grad), nullptr, data(grad_x), data(grad_g), data(grad_state)};
  step_backward(kGru, a, type_of(h), current_stream(h));
  return {grad_x, grad_g, grad_state};
}

}  // namespace s2s::cuda
