// All kernels, compiled for the CPU.
#include "cuda.h"
// clang-format off
#include "../../csrc/cuda/additive_attention.cu"
#include "../../csrc/cuda/beam_search.cu"
#include "../../csrc/cuda/cell.cu"
#include "../../csrc/cuda/feed.cu"
