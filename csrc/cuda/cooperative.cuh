// What the blocks of a launch say to each other: numbers in exchanged memory, made visible by a release and an acquire
// of a flag; and launches whose blocks are all alive at once, so that they may wait for each other. Nothing else may
// cross from block to block: tests/emulation holds every access to exchanged memory against the releases and acquires
// that order it.
#pragma once

#include "device.cuh"

namespace s2s::cuda {

#ifndef S2S_EMULATED

// A block's own, as much as the launch asked for.
__device__ __forceinline__ char* shared_memory() {
  extern __shared__ __align__(16) char memory[];
  return memory;
}

// Whatever this block wrote before its last __syncthreads is visible to who acquires what this has added to.
__device__ __forceinline__ void release_add(unsigned* flag, unsigned x) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(flag), "r"(x) : "memory");
}

__device__ __forceinline__ unsigned acquire(const unsigned* flag) {
  unsigned x;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(flag) : "memory");
  return x;
}

// Adds one: how often that was done before. Releases and acquires, as the two above.
__device__ __forceinline__ unsigned take_turn(unsigned* counter) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

// In a loop that waits for other blocks.
__device__ __forceinline__ void pause(const char*) {}

template <class T>
__device__ __forceinline__ void write_exchanged(T* base, int64_t at, T x) {
  base[at] = x;
}

// 16 bytes, from where all multiprocessors see the same; never before the wait that it stands behind.
template <class P, class T>
__device__ __forceinline__ P read_exchanged(const T* base, int64_t at) {
  int4 words;
  static_assert(sizeof(P) == sizeof(words));
  asm volatile("ld.global.cg.v4.s32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "l"(base + at)
               : "memory");
  P pack;
  memcpy(&pack, &words, sizeof(P));
  return pack;
}

template <class T>
__device__ __forceinline__ T read_exchanged_one(const T* base, int64_t at) {
  return __ldcg(base + at);
}

// Refused by CUDA where not all blocks fit at once.
template <class... Parameters, class... Arguments>
void launch_together(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
                     cudaStream_t stream, Arguments... arguments) {
  auto check = [](cudaError_t error) {
    if (error != cudaSuccess)
      throw std::runtime_error(std::string("s2s_kernels: a persistent CUDA kernel was not launched: ") +
                               cudaGetErrorString(error));
  };
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  cudaLaunchAttribute together;
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(grid_of(blocks)), config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes, config.stream = stream;
  config.attrs = &together, config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, arguments...));
}

#endif

// Memory of T in which the blocks of a launch hand numbers to each other.
template <class T>
struct Exchange {
  T* base;

  __device__ void write(int64_t at, T x) const { write_exchanged(base, at, x); }
  __device__ Pack<kPack<T>, T> read(int64_t at) const { return read_exchanged<Pack<kPack<T>, T>>(base, at); }
  __device__ T one(int64_t at) const { return read_exchanged_one(base, at); }
  __device__ Exchange from(int64_t at) const { return {base + at}; }
};

struct Turn {
  bool last;
};

// Whether this is the last of so many blocks to come here: it then sees what all of them wrote. The counter is zero
// before and after. All threads of a block call it together.
__device__ __forceinline__ bool is_last(unsigned* arrived, int members) {
  Turn& turn = block_memory<Turn>();
  __syncthreads();
  if (threadIdx.x == 0) {
    turn.last = take_turn(arrived) == static_cast<unsigned>(members) - 1;
    if (turn.last) *arrived = 0;  // for the next launch
  }
  __syncthreads();
  return turn.last;
}

// For the `members` blocks that share a flag, which begins as zero: what a block wrote before it arrived, all see that
// have waited. All threads of a block call it together, arrive and wait in turns.
struct GroupBarrier {
  unsigned* arrived;
  unsigned members;
  unsigned expected = 0;

  __device__ void arrive() {
    __syncthreads();
    if (threadIdx.x == 0) release_add(arrived, 1);
    expected += members;
  }

  __device__ void wait() const {
    if (threadIdx.x == 0) {
      while (static_cast<int>(acquire(arrived) - expected) < 0) pause("the group's barrier");
    }
    __syncthreads();
  }
};

}  // namespace s2s::cuda
