// A block takes up to Q queries of one row and head, so that a key and a value are read once for all of them, and a
// warp several positions at once, so that their loads are on their way together. The scores of up to kNear positions
// lie in shared memory, those of more in the weights, an output in any case. Sums run in a fixed order; there are no
// atomics.
#pragma once

#include "../math/additive.h"
#include "additive_attention.cuh"
#include "device.cuh"

namespace s2s::cuda {

constexpr int kQueries = 4;     // Q where there are several queries
constexpr int64_t kNear = 256;  // source positions whose scores lie in shared memory

constexpr int64_t kFill = 264, kMaxSplits = 64;  // blocks that keep the largest GPU busy
constexpr int64_t kSmallestSplit = 16;           // source positions: all their values are on their way at once

inline int64_t tiles(const AttentionSizes& a, int64_t queries) { return (a.queries + queries - 1) / queries; }

// Into how many parts S is split, where there are so many blocks without.
inline int64_t splits_of(const AttentionSizes& a, int64_t blocks) {
  if (blocks == 0 || blocks >= kFill) return 1;
  int64_t splits = kFill / blocks, most = (a.source + kSmallestSplit - 1) / kSmallestSplit;
  splits = splits < most ? splits : most;
  return splits < 1 ? 1 : splits < kMaxSplits ? splits : kMaxSplits;
}

// Queries first..first + count of row b and head n, and pointers to what belongs to query number q of them.
template <int Q>
struct Tile {
  int64_t b, n, first, step = 0;  // step: of one query alone
  int count;

  __device__ Tile(const AttentionSizes& a, int64_t index) {
    int64_t per_row = (a.queries + Q - 1) / Q;
    n = index % a.heads;
    first = index / a.heads % per_row * Q;
    b = index / a.heads / per_row;
    count = a.queries - first < Q ? a.queries - first : Q;
  }

  // `size` elements a head. Past the count the last query again: computed, never written.
  template <class X>
  __device__ X* row(X* p, Strides strides, int64_t size, int q) const {
    int64_t t = first + (q < count ? q : count - 1);
    if constexpr (Q == 1) t += step;
    return p + b * strides.batch + t * strides.step + n * size;
  }
};

// Between bfloat16 tensors as one instruction: its relative error of 2^-11 is a quarter of one rounding of theirs. The
// emulation makes as large an error, so that the tests judge it.
template <class T, class A>
__device__ __forceinline__ A tanh_of_score(A x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
#ifdef S2S_EMULATED
    return math::bits_to_float((math::float_to_bits(math::tanh(x)) + 0x1000) & -0x2000);
#else
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
  } else {
    return math::tanh(x);
  }
}

// Whether all rows of all tensors may be read V elements at a time.
template <class T, int V, class A>
bool aligned_sizes(const A& a) {
  return a.attention % V == 0 && a.width % V == 0 && aligned<V>(static_cast<const T*>(a.keys)) &&
         aligned<V>(static_cast<const T*>(a.v));
}

}  // namespace s2s::cuda
