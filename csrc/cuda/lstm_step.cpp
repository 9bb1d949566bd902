// One LSTM step on a GPU.
#include "../checks.h"
#include "cell.cuh"
#include "glue.h"
#include "ops.h"

namespace s2s::cuda {

Two lstm_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c) {
  c10::DeviceGuard guard(c.device());
  StepArguments in(kLstm, gates_x, gates_h, "c", c, contiguous);
  Tensor h_out = in.empty(in.hidden), c_out = in.empty(in.hidden);
  StepForward a{in.batch, in.hidden, data(in.gates_x), data(in.gates_h), data(in.state), data(h_out), data(c_out)};
  step_forward(kLstm, a, type_of(c), current_stream(c));
  return {h_out, c_out};
}

Two lstm_step_backward(const OptionalTensor& grad_h, const OptionalTensor& grad_c, const Tensor& gates_x,
                       const Tensor& gates_h, const Tensor& c) {
  c10::DeviceGuard guard(c.device());
  StepArguments in(kLstm, gates_x, gates_h, "c", c, contiguous);
  check_optional("grad_h", grad_h, c.sizes(), c);
  check_optional("grad_c", grad_c, c.sizes(), c);
  Tensor from_h = contiguous(grad_h), from_c = contiguous(grad_c);
  Tensor grad_gates = in.empty(4 * in.hidden), grad_state = in.empty(in.hidden);
  StepBackward a{in.batch,     in.hidden,    data(in.gates_x), data(in.gates_h), data(in.state),
                 data(from_h), data(from_c), data(grad_gates), nullptr,          data(grad_state)};
  step_backward(kLstm, a, type_of(c), current_stream(c));
  return {grad_gates, grad_state};
}

}  // namespace s2s::cuda
