// What a block of a persistent launch is, and its thread: one row and one unit of each tile.
#pragma once

#include "cell_element.cuh"
#include "persistent.cuh"
#include "tile.cuh"

namespace s2s::cuda {

// N columns of the product, `parts` times the state deep.
template <class T, int N, int places = kWarps>
struct PersistentBlock {
  using Product = BlockProduct<T, N, places>;

  int direction, slices, slice, parts, tiles, unit, row;
  int64_t first_row, j;
  Product product;
  float* states;  // of this thread, kThreads apart: the carried h of each tile, then c
  Exchange<T> exchange;
  GroupBarrier barrier;

  // one: there is one direction, for kernels that have no register left to ask with.
  __device__ PersistentBlock(const Division& d, int parts_, int64_t batch, bool one = false)
      : slices(d.slices), slice(blockIdx.x % d.slices), parts(parts_) {
    int all = blockIdx.x / d.slices, group = one ? all : all % d.groups;  // of all directions, and of this one
    direction = one ? 0 : all / d.groups;
    unit = threadIdx.x % kTile, row = threadIdx.x / kTile;
    j = slice * kTile + unit;
    first_row = static_cast<int64_t>(group) * d.tiles * kTile;
    int64_t left = (batch - first_row + kTile - 1) / kTile;
    tiles = left < d.tiles ? static_cast<int>(left) : d.tiles;
    int depth = parts * slices;
    product.right = reinterpret_cast<T*>(shared_memory());
    product.partial = reinterpret_cast<float*>(product.right + depth * Product::kRight);
    product.depth = depth;
    states = product.partial + places * kTile * N + threadIdx.x;
    exchange.base = static_cast<T*>(d.exchange) + static_cast<int64_t>(all) * 2 * d.tiles * depth * Product::kLeft;
    barrier = {d.arrived + all, static_cast<unsigned>(slices)};
  }

  __device__ float& h(int tile) const { return states[tile * kThreads]; }
  __device__ float& c(int tile) const { return states[(tiles + tile) * kThreads]; }
  __device__ int64_t batch_row(int tile) const { return first_row + tile * kTile + row; }

  // h and, where there is one, c (B, H): the thread's states, zeros past the batch; and back.
  __device__ void read_states(bool has_cell, const void* from_h, const void* from_c, int64_t hidden,
                              int64_t batch) const {
    for (int tile = 0; tile < tiles; tile++) {
      int64_t b = batch_row(tile), at = b * hidden + j;
      h(tile) = b < batch ? static_cast<const float*>(from_h)[at] : 0.0f;
      if (has_cell) c(tile) = b < batch ? static_cast<const float*>(from_c)[at] : 0.0f;
    }
  }
  __device__ void write_states(bool has_cell, void* to_h, void* to_c, int64_t hidden, int64_t batch) const {
    for (int tile = 0; tile < tiles; tile++) {
      int64_t b = batch_row(tile), at = b * hidden + j;
      if (b >= batch) continue;
      static_cast<float*>(to_h)[at] = h(tile);
      if (has_cell) static_cast<float*>(to_c)[at] = c(tile);
    }
  }

  // The left operand of a tile's product: what all slices gave for this step.
  __device__ Exchange<T> given(int64_t step, int tile) const {
    return exchange.from((step % 2 * tiles + tile) * product.depth * Product::kLeft);
  }
  __device__ void give(int64_t step, int tile, int part, float x) const {
    given(step, tile)
        .write((part * slices + slice) * Product::kLeft + Product::Sums::left(row, unit), static_cast<T>(x));
  }

  // The product of a tile, for all threads to read. The barrier lets no warp write over what another still reads of
  // the tile before.
  __device__ void multiply(int64_t step, int tile) const {
    if (tile > 0) __syncthreads();
    product.sum(given(step, tile));
    __syncthreads();
  }
};

// What a launch's `kernel` makes of the number of gates and a zero of the type, over all blocks of its division.
template <class P, class F>
void launch_persistent(int64_t gates, const P& p, Type type, cudaStream_t stream, const F& kernel) {
  dispatch(type, [&](auto zero) {
    if constexpr (std::is_same_v<decltype(zero), double>) {
      throw std::runtime_error("s2s_kernels: no persistent kernel computes in float64");
    } else {
      auto of_gru = kernel(std::integral_constant<int, 3>(), zero),
           of_lstm = kernel(std::integral_constant<int, 4>(), zero);
      const Division& d = p.division;
      launch_together(gates == 3 ? of_gru : of_lstm, int64_t{d.directions} * d.groups * d.slices, kThreads,
                      d.shared_bytes, stream, p);
    }
  });
}

}  // namespace s2s::cuda
