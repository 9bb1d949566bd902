// What is compared has a total order, so that every lane finds the same best, and in every run.
#pragma once

#include <limits>

#include "beam_search.cuh"
#include "device.cuh"

namespace s2s::cuda {

constexpr int32_t kNone = std::numeric_limits<int32_t>::max();

template <class X>
__device__ __forceinline__ X* as(void* p) {
  return static_cast<X*>(p);
}
template <class X>
__device__ __forceinline__ const X* as(const void* p) {
  return static_cast<const X*>(p);
}

template <class X>
__device__ __forceinline__ X of_lane(X x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}

// One of many numbers: the larger first, of equal ones the lower index.
template <class A>
struct Item {
  A value;
  int32_t index;
  __device__ bool precedes(const Item& b) const { return value > b.value || (value == b.value && index < b.index); }
  __device__ Item exchanged(int mask) const { return {of_lane(value, mask), of_lane(index, mask)}; }
};

// A prefix and a token after it.
template <class A>
struct Candidate {
  A score, logit;
  int32_t prefix, token;
  __device__ bool precedes(const Candidate& b) const {
    if (score != b.score) return score > b.score;
    if (prefix != b.prefix) return prefix < b.prefix;
    if (logit != b.logit) return logit > b.logit;
    return token < b.token;
  }
  __device__ Candidate exchanged(int mask) const {
    return {of_lane(score, mask), of_lane(logit, mask), of_lane(prefix, mask), of_lane(token, mask)};
  }
};

template <class X>
__device__ __forceinline__ X first_of_warp(X x) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    X other = x.exchanged(mask);
    if (other.precedes(x)) x = other;
  }
  return x;
}

template <class X>
__device__ __forceinline__ X first_of_block(X x, X (&of_warps)[kWarps], int threads) {
  x = first_of_warp(x);
  if (threadIdx.x % kLanes == 0) of_warps[threadIdx.x / kLanes] = x;
  __syncthreads();
  for (int i = 0; i < threads / kLanes; i++)
    if (of_warps[i].precedes(x)) x = of_warps[i];
  __syncthreads();  // all have read them
  return x;
}

// Of a block that has no use for more.
inline int threads_for(int64_t items) {
  int64_t warps = (items + kLanes - 1) / kLanes;
  return static_cast<int>(warps < kWarps ? warps : kWarps) * kLanes;
}

}  // namespace s2s::cuda
