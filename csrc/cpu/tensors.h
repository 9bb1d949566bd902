// From tensors to the pointers that the kernels take.
#pragma once

#include "../arguments.h"
#include "isa.h"
#include "parallel.h"

namespace s2s::cpu {

// bfloat16 and float16 are computed in float32.
inline at::ScalarType compute_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline Tensor to_compute(const Tensor& x) { return x.to(compute_type(x)).contiguous(); }
inline Tensor to_compute(const OptionalTensor& x) { return given(x) ? to_compute(*x) : Tensor(); }

template <class T>
T* data(const Tensor& x) {
  return x.defined() && x.numel() ? x.mutable_data_ptr<T>() : nullptr;
}

// Calls f(T()) with the dtype of x, float or double.
template <class F>
auto dispatch(const Tensor& x, const F& f) {
  return x.scalar_type() == at::kDouble ? f(double()) : f(float());
}

// Weights packed for the skinny products of a recurrence: B (k, n), given as a matrix (n, k) or (k, n).
template <class T>
class Packed {
 public:
  Packed() = default;
  // B = w^T, for x W^T.
  static Packed transposed(const Tensor& w) { return {w, w.size(1), w.size(0), w.stride(1), w.stride(0)}; }
  // B = w, for the gradient.
  static Packed straight(const Tensor& w) { return {w, w.size(0), w.size(1), w.stride(0), w.stride(1)}; }

  // C (m, n) = A (m, k) B + bias, or +=; each thread of the team makes its part of the columns.
  void apply(const Team& team, int64_t m, const T* a, int64_t lda, T* c, int64_t ldc, const T* bias,
             bool accumulate) const {
    const auto& kernel = kernels<T>();
    auto [first, last] = team.part((n_ + kernel.panel - 1) / kernel.panel);
    int64_t begin = first * kernel.panel, end = std::min(n_, last * kernel.panel);
    columns(begin, end, m, a, lda, c + begin, ldc, bias ? bias + begin : nullptr, accumulate);
  }

  // Columns begin..end alone, `begin` a multiple of a panel; c and bias are those of column `begin`.
  void columns(int64_t begin, int64_t end, int64_t m, const T* a, int64_t lda, T* c, int64_t ldc, const T* bias,
               bool accumulate) const {
    if (m == 0 || begin >= end) return;
    kernels<T>().gemm(m, end - begin, k_, a, lda, data<T>(panels_) + begin * k_, c, ldc, bias, accumulate);
  }

 private:
  Packed(const Tensor& w, int64_t k, int64_t n, int64_t k_stride, int64_t n_stride) : k_(k), n_(n) {
    const auto& kernel = kernels<T>();
    int64_t panels = (n + kernel.panel - 1) / kernel.panel;
    panels_ = at::empty({panels * kernel.panel * k}, w.options());
    T* out = data<T>(panels_);
    const T* from = data<T>(w);
    at::parallel_for(0, panels, 1 + 65536 / (k * kernel.panel + 1), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; p++)
        kernel.pack(from + p * kernel.panel * n_stride, k_stride, n_stride, k,
                    std::min(kernel.panel, n - p * kernel.panel), out + p * kernel.panel * k);
    });
  }

  Tensor panels_;
  int64_t k_ = 0, n_ = 0;
};

}  // namespace s2s::cpu
