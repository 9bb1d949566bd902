// What all kernels share: types and how they accumulate, 16-byte loads, sums over a warp, the launch.
#pragma once

#ifndef S2S_EMULATED  // by tests/cuda_emulation, which brings its own
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../math/activation.h"
#include "grid.h"
#include "types.h"

namespace s2s::cuda {

constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps;

template <class T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class A>
constexpr A kMinusInfinity = -std::numeric_limits<A>::infinity();

// Elements of a 16-byte load. double is for checking gradients, not for speed.
template <class T>
constexpr int kPack = std::is_same_v<T, double> ? 1 : 16 / sizeof(T);

template <int V, class T>
struct alignas(V * sizeof(T) < 16 ? V * sizeof(T) : 16) Pack {
  T at[V];
};

template <int V, class T, class A>
__device__ __forceinline__ void widen(const Pack<V, T>& pack, A (&to)[V]) {
  if constexpr (std::is_same_v<T, __nv_bfloat16> && V % 2 == 0) {
    // Two numbers are the halves of a word: one instruction each, where the compiler's own conversion takes two.
#pragma unroll
    for (int i = 0; i < V; i += 2) {
      int word;
      memcpy(&word, &pack.at[i], sizeof(word));
      to[i] = math::bits_to_float(word << 16), to[i + 1] = math::bits_to_float(word & -0x10000);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; i++) to[i] = static_cast<A>(pack.at[i]);
  }
}

template <int V, class T, class A>
__device__ __forceinline__ void load(const T* from, A (&to)[V]) {
  Pack<V, T> pack = *reinterpret_cast<const Pack<V, T>*>(from);
  widen(pack, to);
}

// The same of memory that no kernel writes meanwhile, or zeros: one predicated instruction, where a branch around a
// load would let a warp wait for each load by itself.
template <int V, class T, class A>
__device__ __forceinline__ void load_if(bool wanted, const T* from, A (&to)[V]) {
  Pack<V, T> pack{};
#ifndef S2S_EMULATED
  if constexpr (sizeof(pack) == 16) {
    int4 words{};
    asm("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\n@p ld.global.nc.v4.s32 {%0, %1, %2, %3}, [%4];\n}"
        : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w)
        : "l"(from), "r"(static_cast<int>(wanted))
        : "memory");
    memcpy(&pack, &words, sizeof(pack));
    return widen(pack, to);
  }
#endif
  if (wanted) pack = *reinterpret_cast<const Pack<V, T>*>(from);
  widen(pack, to);
}

template <int V, class T, class A>
__device__ __forceinline__ void store(T* to, const A (&from)[V]) {
  Pack<V, T> pack;
#pragma unroll
  for (int i = 0; i < V; i++) pack.at[i] = static_cast<T>(from[i]);
  *reinterpret_cast<Pack<V, T>*>(to) = pack;
}

// Whether rows that begin at p, so many elements apart, may be read V elements at a time.
template <int V, class T>
bool aligned(const T* p, Strides strides = {0, 0}) {
  return reinterpret_cast<uintptr_t>(p) % alignof(Pack<V, T>) == 0 && strides.batch % V == 0 && strides.step % V == 0;
}

// N sums, a power of two, at once and in the same order in every run: sum number lane / (32 / N) in each lane, for
// N - 1 exchanges and one for each halving that is left.
template <int N, class A>
__device__ __forceinline__ A warp_sums(A (&x)[N]) {
#pragma unroll
  for (int half = N / 2, offset = kLanes / 2; half > 0; half /= 2, offset /= 2) {
    bool upper = threadIdx.x & offset;
#pragma unroll
    for (int i = 0; i < half; i++) {
      A mine = upper ? x[i + half] : x[i], theirs = upper ? x[i] : x[i + half];
      x[i] = mine + __shfl_xor_sync(0xffffffffu, theirs, offset);
    }
  }
#pragma unroll
  for (int offset = kLanes / N / 2; offset > 0; offset /= 2) x[0] += __shfl_xor_sync(0xffffffffu, x[0], offset);
  return x[0];
}

// In all lanes.
template <class A>
__device__ __forceinline__ A warp_sum(A x) {
  A one[1] = {x};
  return warp_sums(one);
}

template <class A>
__device__ __forceinline__ A warp_max(A x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    A other = __shfl_xor_sync(0xffffffffu, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// Calls f(T()) with the type's C++ name.
template <class F>
void dispatch(Type type, const F& f) {
  switch (type) {
    case Type::kFloat:
      return f(float());
    case Type::kDouble:
      return f(double());
    case Type::kHalf:
      return f(__half());
    case Type::kBFloat16:
      return f(__nv_bfloat16());
  }
}

// Blocks for a thread an element.
inline int64_t blocks_of(int64_t elements) { return (elements + kThreads - 1) / kThreads; }

#ifndef S2S_EMULATED
// Shared memory of the block, the same for the same type.
template <class Memory>
__device__ __forceinline__ Memory& block_memory() {
  __shared__ Memory memory;
  return memory;
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, cudaStream_t stream, Arguments... arguments) {
  if (blocks == 0) return;
  kernel<<<grid_of(blocks), threads, 0, stream>>>(arguments...);
  cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("s2s_kernels: a CUDA kernel was not launched: ") + cudaGetErrorString(error));
}
#endif

}  // namespace s2s::cuda
