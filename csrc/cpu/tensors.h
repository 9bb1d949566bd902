// From tensors to the pointers that the kernels take.
#pragma once

#include <ATen/Context.h>
#include <torch/version.h>

#include <algorithm>
#include <tuple>

#include "../arguments.h"
#include "buffer.h"
#include "dense.h"
#include "isa.h"
#include "pages.h"
#include "parallel.h"

namespace s2s::cpu {

// bfloat16 and float16 are computed in float32.
inline at::ScalarType compute_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline Tensor to_compute(const Tensor& x) { return compact(x, compute_type(x)); }
inline Tensor to_compute(const OptionalTensor& x) { return given(x) ? to_compute(*x) : Tensor(); }

// A matrix for products: one of bfloat16 stays as it lies where its rows can be read as pairs (`lies_in_pairs`).
inline Tensor to_multiply(const Tensor& x) {
  if (!pair_kernels() || x.scalar_type() != at::kBFloat16 || x.size(-1) % 2) return to_compute(x);
  Tensor rows = compact(x, at::kBFloat16);
  return reinterpret_cast<uintptr_t>(rows.const_data_ptr()) % sizeof(Pair) ? to_compute(x) : rows;
}
inline bool lies_in_pairs(const Tensor& x) { return x.scalar_type() == at::kBFloat16; }

template <class T>
T* data(const Tensor& x) {
  return x.defined() && x.numel() ? x.mutable_data_ptr<T>() : nullptr;
}

// The same as E, which may be the kernels' name for a type.
template <class E>
E* bits(const Tensor& x) {
  return x.numel() ? static_cast<E*>(x.mutable_data_ptr()) : nullptr;
}

// n numbers of x from number `at` on; zeros where x is undefined.
template <class T>
void copy_or_zero(T* to, const Tensor& x, int64_t at, int64_t n) {
  if (x.defined())
    std::copy_n(data<T>(x) + at, n, to);
  else
    std::fill_n(to, n, T(0));
}

// Calls f(T()) with the dtype of x, float or double.
template <class F>
auto dispatch(const Tensor& x, const F& f) {
  return x.scalar_type() == at::kDouble ? f(double()) : f(float());
}

// Whether torch may make products of float32 in bfloat16: torch.set_float32_matmul_precision("medium"), or
// torch.backends.mkldnn.matmul.fp32_precision = "bf16".
inline bool rounds_float32() {
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 10
  return at::globalContext().float32Precision("mkldnn", "matmul") == "bf16";
#else
  return at::globalContext().float32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL) ==
         at::Float32Precision::BF16;
#endif
}

// Whether products round to bfloat16 what they multiply.
inline bool in_pairs(at::ScalarType type) {
  return pair_kernels() && (type == at::kBFloat16 || (type == at::kFloat && rounds_float32()));
}

inline int64_t pairs_of(int64_t k) { return (k + 1) / 2; }

// Whether rows so far apart, by quarters of a page, share a few sets of the first-level cache, and drive each other out
// of it when a kernel reads them side by side.
inline bool share_sets(int64_t bytes) { return bytes % 1024 == 0; }

// How far apart rows of so many numbers of `size` bytes do not.
inline int64_t apart(int64_t width, int64_t size) {
  return share_sets(width * size) ? width + static_cast<int64_t>(kLineBytes) / size : width;
}

// Empty, its rows a cache line further apart than they are wide where they would share sets.
inline Tensor rows_apart(const Tensor& like, std::vector<int64_t> shape) {
  int64_t width = shape.back();
  shape.back() = apart(width, like.element_size());
  int64_t count = 1;
  for (int64_t n : shape) count *= n;
  return in_large_pages(count, like.options()).view(shape).narrow(-1, 0, width);
}

// (m, k) rows that a kernel reads side by side, and their stride: copied to `buffer` where they share sets.
template <class T>
std::pair<const T*, int64_t> spread(int64_t m, int64_t k, const T* a, int64_t lda, Buffer<T>& buffer) {
  constexpr int64_t line = 64 / sizeof(T);
  if (m < 4 || !share_sets(lda * sizeof(T)) || k < 16 * line) return {a, lda};
  int64_t stride = k + line;
  buffer.resize(std::max<size_t>(buffer.size(), m * stride));
  for (int64_t i = 0; i < m; i++) std::copy_n(a + i * lda, k, buffer.data() + i * stride);
  return {buffer.data(), stride};
}

// Products that are summed one after the other; of more than these, the sums of as many are added up. One long sum
// would lose digits that a library's product keeps.
constexpr int64_t kDeepest = 512;

// Weights packed for the skinny products of a recurrence: B (k, n), given as a matrix (n, k) or (k, n).
template <class T>
class Packed {
 public:
  Packed() = default;
  // B = w^T, for x W^T; w may be one of to_multiply.
  static Packed transposed(const Tensor& w, bool pairs = false) {
    return {w, w.size(1), w.size(0), w.stride(1), w.stride(0), pairs};
  }
  // B = w, for the gradient.
  static Packed straight(const Tensor& w, bool pairs = false) {
    return {w, w.size(0), w.size(1), w.stride(0), w.stride(1), pairs};
  }

  // C (m, n) = A (m, k) B + bias, or +=; each thread of the team makes its part of the columns. A's rows are of T, or
  // of pairs if B is.
  template <class E>
  void apply(const Team& team, int64_t m, const E* a, int64_t lda, T* c, int64_t ldc, const T* bias,
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
    if constexpr (std::is_same_v<T, float>) {
      if (pairs_) {
        int64_t k = pairs_of(k_);
        thread_local Buffer<Pair> rows;
        rows.resize(std::max<size_t>(rows.size(), m * k));
        pair_kernels()->pair_rows(m, k_, a, lda, rows.data());
        return columns(begin, end, m, rows.data(), k, c, ldc, bias, accumulate);
      }
    }
    thread_local Buffer<T> rows;
    std::tie(a, lda) = spread(m, k_, a, lda, rows);
    const auto& kernel = kernels<T>();
    const T* panels = data<T>(panels_) + begin * k_;
    if (k_ <= kDeepest) return kernel.gemm(m, end - begin, k_, a, lda, panels, c, ldc, bias, accumulate);
    // A panel lies in one piece, for all of k.
    for (int64_t column = 0; column < end - begin; column += kernel.panel, panels += kernel.panel * k_)
      for (int64_t p = 0; p < k_; p += kDeepest)
        kernel.gemm(m, std::min(kernel.panel, end - begin - column), std::min(kDeepest, k_ - p), a + p, lda,
                    panels + p * kernel.panel, c + column, ldc, bias && p == 0 ? bias + column : nullptr,
                    accumulate || p > 0);
  }

  void columns(int64_t begin, int64_t end, int64_t m, const Pair* a, int64_t lda, T* c, int64_t ldc, const T* bias,
               bool accumulate) const {
    if (m == 0 || begin >= end) return;
    if constexpr (std::is_same_v<T, float>) {
      const Pair* panels = bits<const Pair>(panels_) + begin * pairs_of(k_);
      pair_kernels()->gemm(m, end - begin, pairs_of(k_), a, lda, panels, c, ldc, bias, accumulate);
    }
  }

 private:
  Packed(const Tensor& w, int64_t k, int64_t n, int64_t k_stride, int64_t n_stride, bool pairs)
      : k_(k), n_(n), pairs_(pairs) {
    const auto& kernel = kernels<T>();
    int64_t panel = kernel.panel, panels = (n + panel - 1) / panel;
    int64_t size = panel * (pairs ? pairs_of(k) : k);
    panels_ = in_large_pages(panels * size, w.options().dtype(pairs ? at::kInt : w.scalar_type()));
    bool lying = lies_in_pairs(w);
    const T* from = lying ? nullptr : data<T>(w);
    char* out = panels_.numel() ? static_cast<char*>(panels_.mutable_data_ptr()) : nullptr;
    // Shares of 12288 numbers and more, which are worth waking a thread.
    parallel_for(0, panels, 1 + 12288 / (k * panel + 1), [&](int64_t begin, int64_t end) {
      Buffer<T> wide(pairs && !lying ? k * panel : 0);
      for (int64_t p = begin; p < end; p++) {
        char* packed = out + p * size * panels_.element_size();
        if (lying) {
          int64_t depth = pairs_of(k), first = p * panel;
          pair_kernels()->pack(bits<const Pair>(w) + first * depth, 1, depth, depth, std::min(panel, n - first),
                               reinterpret_cast<Pair*>(packed));
          continue;
        }
        T* to = pairs ? wide.data() : reinterpret_cast<T*>(packed);
        kernel.pack(from + p * panel * n_stride, k_stride, n_stride, k, std::min(panel, n - p * panel), to);
        if constexpr (std::is_same_v<T, float>)
          if (pairs) pair_kernels()->pair_columns(k, panel, to, panel, reinterpret_cast<Pair*>(packed), panel);
      }
    });
  }

  Tensor panels_;
  int64_t k_ = 0, n_ = 0;
  bool pairs_ = false;
};

}  // namespace s2s::cpu
