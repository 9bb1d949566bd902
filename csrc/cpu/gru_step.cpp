// One GRU step: elementwise over (B, H).
#include "../checks.h"
#include "tensors.h"

namespace s2s::cpu {

namespace {

constexpr int64_t kGrain = 4096;  // elements that are worth a thread

}  // namespace

Tensor gru_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  check_dim("h", h, 2, 2);
  int64_t batch = h.size(0), hidden = h.size(1);
  check_like("h", h, {batch, hidden}, h);
  check_like("gates_x", gates_x, {batch, 3 * hidden}, h);
  check_like("gates_h", gates_h, {batch, 3 * hidden}, h);
  Tensor gx = to_compute(gates_x), gh = to_compute(gates_h), previous = to_compute(h);
  Tensor out = at::empty({batch, hidden}, previous.options());
  dispatch(previous, [&](auto zero) {
    using T = decltype(zero);
    const T *x = data<T>(gx), *g = data<T>(gh), *from = data<T>(previous);
    T* to = data<T>(out);
    at::parallel_for(0, batch, 1 + kGrain / (hidden + 1), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++)
        kernels<T>().gru_forward(x + b * 3 * hidden, g + b * 3 * hidden, from + b * hidden, nullptr, to + b * hidden,
                                 nullptr, nullptr, hidden, 0, hidden);
    });
  });
  return out.to(h.scalar_type());
}

Three gru_step_backward(const Tensor& grad_h, const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  int64_t batch = h.size(0), hidden = h.size(1);
  Tensor gx = to_compute(gates_x), gh = to_compute(gates_h), previous = to_compute(h);
  Tensor grad = to_compute(grad_h).clone();  // becomes the gradient of h in place
  Tensor grad_x = at::empty({batch, 3 * hidden}, gx.options()), grad_gh = at::empty({batch, 3 * hidden}, gx.options());
  dispatch(previous, [&](auto zero) {
    using T = decltype(zero);
    const T *x = data<T>(gx), *g = data<T>(gh), *from = data<T>(previous);
    T *to = data<T>(grad), *to_x = data<T>(grad_x), *to_h = data<T>(grad_gh);
    at::parallel_for(0, batch, 1 + kGrain / (hidden + 1), [&](int64_t begin, int64_t end) {
      const auto& kernel = kernels<T>();
      std::vector<T> saved(4 * hidden), gates(4 * hidden), state(hidden);
      for (int64_t b = begin; b < end; b++) {
        const T* h_row = from + b * hidden;
        kernel.gru_forward(x + b * 3 * hidden, g + b * 3 * hidden, h_row, nullptr, state.data(), nullptr, saved.data(),
                           hidden, 0, hidden);
        kernel.gru_backward(saved.data(), h_row, nullptr, nullptr, to + b * hidden, nullptr, gates.data(),
                            to_h + b * 3 * hidden, hidden, 0, hidden);
        std::copy(gates.begin(), gates.begin() + 3 * hidden, to_x + b * 3 * hidden);
      }
    });
  });
  auto type = h.scalar_type();
  return {grad_x.to(type), grad_gh.to(type), grad.to(type)};
}

}  // namespace s2s::cpu
