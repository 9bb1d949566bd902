#include "dense.h"

#include <ATen/ThreadLocalState.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>

#include <algorithm>

#include "tensors.h"

namespace s2s::cpu {

namespace {

constexpr int64_t kGrain = 32768;  // numbers that are worth a thread, as for ATen
constexpr int64_t kColumns = 64, kRowsOfAPart = 32;

// f(dimension, begin, count): slices of a tensor of such sizes, in threads that are to ATen as the caller.
template <class F>
void by_slices(at::IntArrayRef sizes, int64_t numbers, const F& f) {
  int64_t dimension = std::max_element(sizes.begin(), sizes.end()) - sizes.begin();
  int64_t longest = sizes.empty() ? 0 : sizes[dimension];
  if (numbers < 2 * kGrain || longest < 2) {
    if (numbers) f(0, 0, sizes.empty() ? -1 : sizes[0]);
    return;
  }
  at::ThreadLocalState caller;
  parallel_for(0, longest, 1 + kGrain * longest / numbers, [&](int64_t begin, int64_t end) {
    at::ThreadLocalStateGuard as_caller(caller);
    f(dimension, begin, end - begin);
  });
}

Tensor slice(const Tensor& x, int64_t dimension, int64_t begin, int64_t count) {
  return count < 0 ? x : x.narrow(dimension, begin, count);
}

Tensor copied(const Tensor& x, at::ScalarType type) {
  Tensor to = at::empty(x.sizes(), x.options().dtype(type).memory_format(at::MemoryFormat::Contiguous));
  by_slices(x.sizes(), x.numel(), [&](int64_t dimension, int64_t begin, int64_t count) {
    slice(to, dimension, begin, count).copy_(slice(x, dimension, begin, count));
  });
  return to;
}

}  // namespace

Tensor converted(const Tensor& x, at::ScalarType type) { return x.scalar_type() == type ? x : copied(x, type); }

Tensor compact(const Tensor& x, at::ScalarType type) {
  // What a lazy negation or conjugation says is ATen's to resolve.
  return x.scalar_type() == type && x.is_contiguous() && !x.is_neg() ? x : copied(x, type);
}

Tensor zeros(at::IntArrayRef sizes, const at::TensorOptions& options) {
  Tensor to = at::empty(sizes, options);
  by_slices(sizes, to.numel(),
            [&](int64_t dimension, int64_t begin, int64_t count) { slice(to, dimension, begin, count).zero_(); });
  return to;
}

Tensor column_sums(const Tensor& x) {
  int64_t columns = x.size(-1), blocks = (columns + kColumns - 1) / kColumns;
  Tensor to = at::empty({columns}, x.options()), all = x.dim() == 3 ? x : x.unsqueeze(0);
  dispatch(x, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(0, blocks, 1 + kGrain * blocks / std::max<int64_t>(x.numel(), 1), [&](int64_t begin, int64_t end) {
      for (int64_t first = begin * kColumns; first < std::min(end * kColumns, columns); first += kColumns) {
        int64_t count = std::min(kColumns, columns - first);
        double sums[kColumns] = {};
        T part[kColumns] = {};
        int64_t rows = 0;
        auto add_part = [&] {
          for (int64_t j = 0; j < kColumns; j++) sums[j] += part[j], part[j] = T(0);
        };
        for (int64_t a = 0; a < all.size(0); a++)
          for (int64_t b = 0; b < all.size(1); b++) {
            const T* row = data<T>(all) + a * all.stride(0) + b * all.stride(1) + first;
            for (int64_t j = 0; j < count; j++) part[j] += row[j];
            if (++rows % kRowsOfAPart == 0) add_part();
          }
        add_part();
        for (int64_t j = 0; j < count; j++) data<T>(to)[first + j] = static_cast<T>(sums[j]);
      }
    });
  });
  return to;
}

Tensor scaled(const Tensor& x, const Tensor& factor) {
  if (x.numel() < 2 * kGrain) return at::mul(x, factor);
  Tensor to = at::empty(x.sizes(), x.options());
  by_slices(x.sizes(), x.numel(), [&](int64_t dimension, int64_t begin, int64_t count) {
    Tensor part = slice(to, dimension, begin, count);
    at::mul_out(part, slice(x, dimension, begin, count), factor);
  });
  return to;
}

}  // namespace s2s::cpu
