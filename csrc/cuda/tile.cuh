// Products of 16 rows with N columns, summed over depth by the warps of a block: the left operand exchanged memory,
// the right one shared memory. Both lie in tiles 16 deep, in each of which the elements that one lane takes lie side
// by side.
#pragma once

#include "cooperative.cuh"

namespace s2s::cuda {

constexpr int kTile = 16;  // rows, and depth

#ifndef S2S_EMULATED
// c += a b on tensor cores, 16 x 16 times 16 x 8; the manual of PTX says which lane holds which elements.
template <class T>
__device__ __forceinline__ void tile_mma(const Pack<8, T>& a, const Pack<4, T>& b, float (&c)[4]) {
  unsigned x[4], y[2];
  memcpy(x, &a, sizeof(x));
  memcpy(y, &b, sizeof(y));
  if constexpr (std::is_same_v<T, __half>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
}
#endif

// What a warp holds of the 16 x N sums. left, right: where element (row, k) and element (k, column) of a tile lie.
template <class T, int N>
struct TileSums {
  float sums[N / 8][4] = {};

  __device__ static int left(int row, int k) { return (row % 8 * 4 + k % 8 / 2) * 8 + k / 8 * 4 + row / 8 * 2 + k % 2; }
  __device__ static int right(int k, int column) {
    return (column / 8 * kLanes + column % 8 * 4 + k % 8 / 2) * 4 + k / 8 * 2 + k % 2;
  }

  __device__ void add(const Exchange<T>& left_tile, const T* right_tile) {
    int lane = threadIdx.x % kLanes;
    Pack<8, T> a = left_tile.read(lane * 8);
#pragma unroll
    for (int i = 0; i < N / 8; i++)
      tile_mma<T>(a, *reinterpret_cast<const Pack<4, T>*>(right_tile + (i * kLanes + lane) * 4), sums[i]);
  }

  // Calls f(row, column, sum) with all that this lane has.
  template <class F>
  __device__ void each(const F& f) const {
    int lane = threadIdx.x % kLanes;
#pragma unroll
    for (int i = 0; i < N / 8; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) f(lane / 4 + j / 2 * 8, i * 8 + lane % 4 * 2 + j % 2, sums[i][j]);
  }
};

// float32 without tensor cores, which would round it: a lane has 4 rows and N / 8 columns.
template <int N>
struct TileSums<float, N> {
  static constexpr int kColumns = N / 8;
  float sums[kColumns][4] = {};

  __device__ static int left(int row, int k) { return k * kTile + row; }
  __device__ static int right(int k, int column) { return k * N + column; }

  __device__ void add(const Exchange<float>& left_tile, const float* right_tile) {
    int lane = threadIdx.x % kLanes;
#pragma unroll
    for (int k = 0; k < kTile; k++) {
      Pack<4, float> a = left_tile.read(k * kTile + lane / 8 * 4);
#pragma unroll
      for (int i = 0; i < kColumns; i += 2) {
        auto b = *reinterpret_cast<const Pack<2, float>*>(right_tile + k * N + lane % 8 * kColumns + i);
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] += a.at[j] * b.at[0], sums[i + 1][j] += a.at[j] * b.at[1];
      }
    }
  }

  template <class F>
  __device__ void each(const F& f) const {
    int lane = threadIdx.x % kLanes;
#pragma unroll
    for (int i = 0; i < kColumns; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) f(lane / 8 * 4 + j, lane % 8 * kColumns + i, sums[i][j]);
  }
};

// The product of 16 exchanged rows with the block's own columns, which stay in shared memory: each warp sums a part of
// the depth, `partial` holds what they found; with fewer places than warps, half of these add to what others left.
template <class T, int N, int places = kWarps>
struct BlockProduct {
  using Sums = TileSums<T, N>;
  static constexpr int kLeft = kTile * kTile, kRight = kTile * N;  // elements of a tile

  T* right;
  float* partial;  // (places, 16, N)
  int depth;       // in tiles

  // right(k, column) = weight(k, column), once.
  template <class F>
  __device__ void fill(const F& weight) const {
    for (int i = threadIdx.x; i < depth * kRight; i += kThreads) {
      int tile = i / kRight, k = i % kTile, column = i / kTile % N;
      right[tile * kRight + Sums::right(k, column)] = weight(tile * kTile + k, column);
    }
  }

  // All threads; what follows must begin with a barrier of the block.
  __device__ void sum(const Exchange<T>& left) const {
    int warp = threadIdx.x / kLanes;
    Sums sums;
#pragma unroll 4
    for (int tile = warp; tile < depth; tile += kWarps) sums.add(left.from(tile * kLeft), right + tile * kRight);
    static_assert(places == kWarps || places == kWarps / 2);
    float* place = partial + warp % places * kTile * N;
    auto leave = [&](int row, int column, float x) { place[row * N + column] = x; };
    if (warp >= kWarps - places) sums.each(leave);
    if (places == kWarps) return;
    __syncthreads();
    if (warp < places) sums.each([&](int row, int column, float x) { place[row * N + column] += x; });
  }

  // In the same order in every run.
  __device__ float at(int row, int column) const {
    float sum = 0;
#pragma unroll
    for (int place = 0; place < places; place++) sum += partial[(place * kTile + row) * N + column];
    return sum;
  }
};

}  // namespace s2s::cuda
