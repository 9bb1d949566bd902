// What the glue (torch, no CUDA) and the kernels (CUDA, no torch) both know.
#pragma once

#include <cstdint>

typedef struct CUstream_st* cudaStream_t;

namespace s2s::cuda {

enum class Type { kFloat, kDouble, kHalf, kBFloat16 };

// A tensor of (B, T, ...) whose last dimensions are contiguous: elements between rows of the batch, and between steps.
struct Strides {
  int64_t batch, step;
};

}  // namespace s2s::cuda
