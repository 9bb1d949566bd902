// What ATen does to whole tensors, in the threads of the CPU kernels. Ops run with ATen kept to the calling thread (see
// KeepAtenHere): its own threads, libgomp's, would wait awake for each other, and then, for up to 16 ms, for more.
#pragma once

#include <ATen/core/Tensor.h>

namespace s2s::cpu {

using at::Tensor;

// x, or a contiguous copy in another dtype.
Tensor converted(const Tensor& x, at::ScalarType type);
// converted(x), contiguous.
Tensor compact(const Tensor& x, at::ScalarType type);
Tensor zeros(at::IntArrayRef sizes, const at::TensorOptions& options);
// (..., width) to (width), of two or three dimensions, the last contiguous; the same bits on any number of threads.
Tensor column_sums(const Tensor& x);
// x * factor, a tensor of no dimensions.
Tensor scaled(const Tensor& x, const Tensor& factor);

}  // namespace s2s::cpu
