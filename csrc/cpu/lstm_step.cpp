// One LSTM step: elementwise over (B, H).
#include <ATen/ops/zeros.h>

#include "../checks.h"
#include "tensors.h"

namespace s2s::cpu {

namespace {

constexpr int64_t kGrain = 4096;  // elements that are worth a thread

// A gradient that may be absent, as memory that the kernel may overwrite.
Tensor gradient(const OptionalTensor& grad, const Tensor& like) {
  return given(grad) ? to_compute(*grad).clone() : at::zeros(like.sizes(), like.options());
}

}  // namespace

Two lstm_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c) {
  check_dim("c", c, 2, 2);
  int64_t batch = c.size(0), hidden = c.size(1);
  check_like("c", c, {batch, hidden}, c);
  check_like("gates_x", gates_x, {batch, 4 * hidden}, c);
  check_like("gates_h", gates_h, {batch, 4 * hidden}, c);
  Tensor gx = to_compute(gates_x), gh = to_compute(gates_h), previous = to_compute(c);
  Tensor h_out = at::empty({batch, hidden}, previous.options()), c_out = at::empty({batch, hidden}, previous.options());
  dispatch(previous, [&](auto zero) {
    using T = decltype(zero);
    const T *x = data<T>(gx), *g = data<T>(gh), *from = data<T>(previous);
    T *to_h = data<T>(h_out), *to_c = data<T>(c_out);
    at::parallel_for(0, batch, 1 + kGrain / (hidden + 1), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++)
        kernels<T>().lstm_forward(x + b * 4 * hidden, g + b * 4 * hidden, nullptr, from + b * hidden, to_h + b * hidden,
                                  to_c + b * hidden, nullptr, hidden, 0, hidden);
    });
  });
  return {h_out.to(c.scalar_type()), c_out.to(c.scalar_type())};
}

Two lstm_step_backward(const OptionalTensor& grad_h, const OptionalTensor& grad_c, const Tensor& gates_x,
                       const Tensor& gates_h, const Tensor& c) {
  int64_t batch = c.size(0), hidden = c.size(1);
  Tensor gx = to_compute(gates_x), gh = to_compute(gates_h), previous = to_compute(c);
  Tensor h_grad = gradient(grad_h, previous), c_grad = gradient(grad_c, previous);
  Tensor gates = at::empty({batch, 4 * hidden}, gx.options());
  dispatch(previous, [&](auto zero) {
    using T = decltype(zero);
    const T *x = data<T>(gx), *g = data<T>(gh), *from = data<T>(previous);
    T *to_h = data<T>(h_grad), *to_c = data<T>(c_grad), *to = data<T>(gates);
    at::parallel_for(0, batch, 1 + kGrain / (hidden + 1), [&](int64_t begin, int64_t end) {
      const auto& kernel = kernels<T>();
      std::vector<T> saved(4 * hidden), state(hidden), cell(hidden), unused(4 * hidden);
      for (int64_t b = begin; b < end; b++) {
        const T* c_row = from + b * hidden;
        kernel.lstm_forward(x + b * 4 * hidden, g + b * 4 * hidden, nullptr, c_row, state.data(), cell.data(),
                            saved.data(), hidden, 0, hidden);
        kernel.lstm_backward(saved.data(), nullptr, c_row, cell.data(), to_h + b * hidden, to_c + b * hidden,
                             to + b * 4 * hidden, unused.data(), hidden, 0, hidden);
      }
    });
  });
  return {gates.to(c.scalar_type()), c_grad.to(c.scalar_type())};
}

}  // namespace s2s::cpu
