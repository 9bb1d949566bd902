// From tensors to what the launchers of the kernels take. Nothing here needs the CUDA headers of torch.
#pragma once

#include <ATen/ops/addmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>

#include "../arguments.h"
#include "types.h"

namespace s2s::cuda {

// Of the device of x: what torch runs its own kernels on. In stream.cpp.
cudaStream_t current_stream(const Tensor& x);

// Where the first of the inputs is, before they are looked at.
inline at::Device device_of(const OptionalTensors& inputs) {
  TORCH_CHECK_VALUE(inputs.size() > 0 && given(inputs.get(0)), "inputs[0] is None, expected a tensor");
  return inputs.get(0)->device();
}

inline Type type_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return Type::kFloat;
    case at::kDouble:
      return Type::kDouble;
    case at::kHalf:
      return Type::kHalf;
    case at::kBFloat16:
      return Type::kBFloat16;
    default:
      TORCH_CHECK_TYPE(false, "dtype ", x.scalar_type(), ", expected float32, float64, bfloat16 or float16");
  }
}

inline at::ScalarType accumulate_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }
inline Tensor to_accumulate(const Tensor& x) { return x.to(accumulate_type(x.scalar_type())); }

inline Tensor contiguous(const Tensor& x) { return x.contiguous(); }
inline Tensor contiguous(const OptionalTensor& x) { return given(x) ? x->contiguous() : Tensor(); }

// A copy in the accumulation's dtype, to be written over.
inline Tensor accumulator(const Tensor& x) {
  return x.to(accumulate_type(x.scalar_type()), /*non_blocking=*/false, /*copy=*/true).contiguous();
}

// a W^T (+ bias), or a W: one product over all steps, or one step's into memory that the loop owns.
inline Tensor product(const Tensor& a, const Tensor& b, const Tensor& bias = {}) {
  return bias.defined() ? at::addmm(bias, a, b) : at::mm(a, b);
}
inline void product_out(Tensor out, const Tensor& a, const Tensor& b, const Tensor& bias = {}) {
  if (bias.defined())
    at::addmm_out(out, bias, a, b);
  else
    at::mm_out(out, a, b);
}

// The bias of a merged weight: of each of its parts the bias, which may be missing, and its size.
inline Tensor merged_biases(std::initializer_list<std::pair<Tensor, int64_t>> parts, const Tensor& like) {
  Tensors biases;
  bool any = false;
  for (const auto& [bias, size] : parts) {
    any |= bias.defined();
    biases.push_back(bias.defined() ? bias : at::zeros({size}, like.options()));
  }
  return any ? at::cat(biases) : Tensor();
}

// a^T b, a sum over the rows of the batch and all steps: a weight's gradient. One sum in a row would lose digits that a
// sum a step keeps, so parts are summed each on its own; a product added to a result would not do, since a BLAS may
// begin its sum with that. A part is as deep as the result is wide: all of them take no more memory than a. A product
// of 16 bits is one: it sums in float32, and parts would be rounded.
inline Tensor outer_products(const Tensor& a, const Tensor& b) {
  constexpr int64_t kDepth = 128, kMostParts = 16;
  int64_t count = a.size(0), parts = std::min(count / std::max(kDepth, b.size(1)), kMostParts);
  if (parts < 2 || a.scalar_type() != accumulate_type(a.scalar_type())) return product(a.t(), b);
  int64_t depth = count / parts, even = parts * depth;
  auto split = [&](const Tensor& x) { return x.narrow(0, 0, even).unflatten(0, {parts, depth}); };
  auto rest = [&](const Tensor& x) { return x.narrow(0, even, count - even); };
  Tensor sum = at::sum(at::bmm(split(a).transpose(1, 2), split(b)), at::IntArrayRef({0}));
  return even == count ? sum : product(rest(a).t(), rest(b), sum);
}

// The sum of all rows of x, in float32 or wider: a bias's gradient. (at::sum would take a buffer of up to 16 times x.)
inline Tensor sum_of_rows(const Tensor& x) {
  at::ScalarType type = accumulate_type(x.scalar_type());
  auto sum = [&](const Tensor& x) { return outer_products(x, at::ones({x.size(0), 1}, x.options())).squeeze(1); };
  if (x.scalar_type() == type) return sum(x);
  // A BLAS may divide a sum of 16-bit numbers and round its parts.
  constexpr int64_t kRows = 4096;  // widened at a time
  Tensor total = at::zeros({x.size(1)}, x.options().dtype(type));
  for (int64_t first = 0; first < x.size(0); first += kRows)
    total.add_(sum(x.narrow(0, first, std::min(kRows, x.size(0) - first)).to(type)));
  return total;
}

inline Tensor rows(const Tensor& x) { return x.reshape({x.size(0) * x.size(1), x.size(2)}); }

inline void* data(const Tensor& x) { return x.defined() && x.numel() ? x.mutable_data_ptr() : nullptr; }

// Of step t of (B, T, ...).
inline void* data(const Tensor& x, int64_t t) {
  return x.defined() && x.numel() ? static_cast<char*>(data(x)) + t * x.stride(1) * x.element_size() : nullptr;
}

// Lengths as the kernels read them, on whatever device they are; nothing waits for it.
inline Tensor to_int64(const OptionalTensor& lengths) {
  return given(lengths) ? lengths->to(at::kLong).contiguous() : Tensor();
}
inline const int64_t* int64_data(const Tensor& x) { return static_cast<const int64_t*>(data(x)); }
inline const bool* bool_data(const Tensor& x) { return static_cast<const bool*>(data(x)); }

}  // namespace s2s::cuda
