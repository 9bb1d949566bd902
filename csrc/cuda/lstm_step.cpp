// One LSTM step on a GPU.
#include "../checks.h"
#include "cell.cuh"
#include "glue.h"
#include "ops.h"

namespace s2s::cuda {

Two lstm_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c) {
  c10::DeviceGuard guard(c.device());
  check_dim("c", c, 2, 2);
  int64_t batch = c.size(0), hidden = c.size(1);
  check_like("c", c, {batch, hidden}, c);
  check_like("gates_x", gates_x, {batch, 4 * hidden}, c);
  check_like("gates_h", gates_h, {batch, 4 * hidden}, c);
  Tensor x = contiguous(gates_x), g = contiguous(gates_h), state = contiguous(c);
  Tensor h_out = at::empty({batch, hidden}, c.options()), c_out = at::empty({batch, hidden}, c.options());
  StepForward a{batch, hidden, data(x), data(g), data(state), data(h_out), data(c_out)};
  step_forward(kLstm, a, type_of(c), current_stream(c));
  return {h_out, c_out};
}

Two lstm_step_backward(const OptionalTensor& grad_h, const OptionalTensor& grad_c, const Tensor& gates_x,
                       const Tensor& gates_h, const Tensor& c) {
  c10::DeviceGuard guard(c.device());
  int64_t batch = c.size(0), hidden = c.size(1);
  Tensor x = contiguous(gates_x), g = contiguous(gates_h), state = contiguous(c);
  Tensor from_h = contiguous(grad_h), from_c = contiguous(grad_c);
  Tensor grad_gates = at::empty(x.sizes(), c.options()), grad_state = at::empty({batch, hidden}, c.options());
  StepBackward a{batch,        hidden,       data(x),          data(g), data(state),
                 data(from_h), data(from_c), data(grad_gates), nullptr, data(grad_state)};
  step_backward(kLstm, a, type_of(c), current_stream(c));
  return {grad_gates, grad_state};
}

}  // namespace s2s::cuda
