// One GRU step on a GPU.
#include "../checks.h"
#include "cell.cuh"
#include "glue.h"
#include "ops.h"

namespace s2s::cuda {

Tensor gru_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  c10::DeviceGuard guard(h.device());
  StepArguments in(kGru, gates_x, gates_h, "h", h, contiguous);
  Tensor out = in.empty(in.hidden);
  StepForward a{in.batch, in.hidden, data(in.gates_x), data(in.gates_h), data(in.state), data(out), nullptr};
  step_forward(kGru, a, type_of(h), current_stream(h));
  return out;
}

Three gru_step_backward(const Tensor& grad_h, const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  c10::DeviceGuard guard(h.device());
  StepArguments in(kGru, gates_x, gates_h, "h", h, contiguous);
  check_optional("grad_h", grad_h, h.sizes(), h);
  Tensor grad = contiguous(grad_h);
  Tensor grad_x = in.empty(3 * in.hidden), grad_g = in.empty(3 * in.hidden), grad_state = in.empty(in.hidden);
  StepBackward a{in.batch,   in.hidden, data(in.gates_x), data(in.gates_h), data(in.state),
                 data(grad), nullptr,   data(grad_x),     data(grad_g),     data(grad_state)};
  step_backward(kGru, a, type_of(h), current_stream(h));
  return {grad_x, grad_g, grad_state};
}

}  // namespace s2s::cuda
