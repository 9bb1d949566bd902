// Just enough of CUDA to run the project's kernels on a CPU, over machine.h. It says nothing about speed.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "../../csrc/cuda/grid.h"
#include "machine.h"
#include "memory.h"

#define S2S_EMULATED
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (s2s::emulation::thread_index)
#define blockIdx (s2s::emulation::block_index)

using __half = c10::Half;
using __nv_bfloat16 = c10::BFloat16;

inline void __syncthreads() { s2s::emulation::block_barrier(); }

inline int atomicAdd(int* p, int x) {
  s2s::emulation::progress();
  return std::exchange(*p, *p + x);
}
inline unsigned atomicAdd(unsigned* p, unsigned x) {
  s2s::emulation::progress();
  return std::exchange(*p, *p + x);
}

namespace s2s::emulation {

// Word 0 is what a lane gives, word 1 whose it wants.
inline void shuffle(unsigned mask, Words* all) {
  uint64_t given[32];
  for (int lane = 0; lane < 32; lane++) given[lane] = all[lane][0];
  for (int lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    uint64_t from = all[lane][1];
    if (from >= 32 || !(mask >> from & 1))
      throw std::runtime_error("shuffle: lane " + std::to_string(lane) + " asks for lane " + std::to_string(from) +
                               ", which is not there");
    all[lane][0] = given[from];
  }
}

template <class T>
T shuffled(unsigned mask, T x, int from) {
  Words words = {0, static_cast<uint64_t>(from)};
  std::memcpy(&words[0], &x, sizeof(T));
  meet(mask, words, shuffle, "a shuffle");
  std::memcpy(&x, &words[0], sizeof(T));
  return x;
}

inline int lane() { return static_cast<int>(thread_index.x % 32); }

}  // namespace s2s::emulation

template <class T>
T __shfl_sync(unsigned mask, T x, int from) {
  return s2s::emulation::shuffled(mask, x, from & 31);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T x, int bits) {
  return s2s::emulation::shuffled(mask, x, s2s::emulation::lane() ^ bits);
}

// The lanes at the upper end keep their own.
template <class T>
T __shfl_down_sync(unsigned mask, T x, int by) {
  int from = s2s::emulation::lane() + by;
  return s2s::emulation::shuffled(mask, x, from < 32 ? from : s2s::emulation::lane());
}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  s2s::emulation::Words none = {};
  s2s::emulation::meet(mask, none, [](unsigned, s2s::emulation::Words*) {}, "__syncwarp");
}

namespace s2s::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, cudaStream_t stream, Arguments... arguments) {
  if (stream != emulation::stream) throw std::runtime_error("a kernel on another stream than torch's");
  emulation::run(grid_of(blocks), threads, [&] { kernel(arguments...); });
}

template <class... Parameters, class... Arguments>
void launch_together(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
                     cudaStream_t stream, Arguments... arguments) {
  if (stream != emulation::stream) throw std::runtime_error("a kernel on another stream than torch's");
  emulation::run_together(grid_of(blocks), threads, shared_bytes, [&] { kernel(arguments...); });
}

template <class Memory>
Memory& block_memory() {
  static const char type = 0;
  return *reinterpret_cast<Memory*>(emulation::block_memory(&type, sizeof(Memory)));
}

inline char* shared_memory() { return emulation::shared_memory(); }
using emulation::pause;

inline void release_add(unsigned* flag, unsigned x) {
  emulation::releases(flag);
  atomicAdd(flag, x);
}

inline unsigned acquire(const unsigned* flag) {
  emulation::acquires(flag);
  return *flag;
}

inline unsigned take_turn(unsigned* counter) {
  emulation::acquires(counter);
  emulation::releases(counter);
  return atomicAdd(counter, 1u);
}

template <class T>
void write_exchanged(T* base, int64_t at, T x) {
  emulation::writes(base, at, sizeof(T), 1);
  base[at] = x;
}

template <class P, class T>
P read_exchanged(const T* base, int64_t at) {
  emulation::reads(base, at, sizeof(T), sizeof(P) / sizeof(T));
  P pack;
  std::memcpy(&pack, base + at, sizeof(P));
  return pack;
}

template <class T>
T read_exchanged_one(const T* base, int64_t at) {
  emulation::reads(base, at, sizeof(T), 1);
  return base[at];
}

}  // namespace s2s::cuda

#include "tile_mma.h"
