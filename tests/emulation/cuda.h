// Just enough of CUDA to run the project's kernels on a CPU: blocks one after the other, the threads of a block as
// fibers that change places at barriers and shuffles. Every other block runs its threads in the opposite order, so
// that a missing barrier shows. It says nothing about speed, or about races between blocks.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <utility>

#include "../../csrc/cuda/grid.h"

#define S2S_EMULATED
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define threadIdx (s2s::emulation::thread_index)
#define blockIdx (s2s::emulation::block_index)

using __half = c10::Half;
using __nv_bfloat16 = c10::BFloat16;
typedef struct CUstream_st* cudaStream_t;

namespace s2s::emulation {

struct Index {
  unsigned x;
};
extern thread_local Index thread_index, block_index;

// The stream that torch's own kernels would run on.
extern thread_local cudaStream_t stream;

void run(int64_t blocks, int threads, const std::function<void()>& body);
void block_barrier();
// Every lane of the warp gives 8 bytes and gets those of the lane whose number differs in the bits of `mask`.
uint64_t exchange(uint64_t mine, int mask);

}  // namespace s2s::emulation

inline void __syncthreads() { s2s::emulation::block_barrier(); }

// Blocks run one after the other.
inline int atomicAdd(int* p, int x) { return std::exchange(*p, *p + x); }

template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof(T));
  bits = s2s::emulation::exchange(bits, mask);
  std::memcpy(&x, &bits, sizeof(T));
  return x;
}

namespace s2s::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, cudaStream_t stream, Arguments... arguments) {
  if (stream != emulation::stream) throw std::runtime_error("a kernel on another stream than torch's");
  emulation::run(grid_of(blocks), threads, [&] { kernel(arguments...); });
}

}  // namespace s2s::cuda
