#include "persistent_block.cuh"

namespace s2s::cuda {

namespace {

template <int gates, class T>
__global__ void __launch_bounds__(kThreads, 1) persistent_forward_kernel(const __grid_constant__ PersistentForward p) {
  PersistentBlock<T, gates * kTile> block(p.division, 1, p.of[0].cell.batch);
  const PersistentForward::Direction& of = p.of[block.direction];
  const CellForward& a = of.cell;
  int64_t hidden = a.hidden, j = block.j;
  const T* weight = static_cast<const T*>(of.weight);
  block.product.fill([&](int k, int column) {
    int64_t gate = column / kTile, unit = block.slice * kTile + column % kTile;
    return weight[(gate * hidden + unit) * hidden + k];
  });
  float bias[gates];
#pragma unroll
  for (int i = 0; i < gates; i++) bias[i] = read_or_zero<T, float>(of.bias, i * hidden + j);
  block.read_states(gates == 4, a.h, a.c, hidden, a.batch);
  for (int tile = 0; tile < block.tiles; tile++) block.give(0, tile, 0, block.h(tile));
  block.barrier.arrive();
  for (int64_t step = 0; step < a.steps; step++) {
    int64_t t = of.reverse ? a.steps - 1 - step : step;
    block.barrier.wait();
    for (int tile = 0; tile < block.tiles; tile++) {
      int64_t b = block.batch_row(tile);
      bool there = b < a.batch, takes_part = there && !(a.lengths && t >= a.lengths[b]);
      float x[gates] = {}, g[gates];
      if (takes_part) read_gates_x<gates, T>(a, t, b, j, x);  // on their way during the product
      block.multiply(step, tile);
      if (takes_part) {
#pragma unroll
        for (int i = 0; i < gates; i++) g[i] = block.product.at(block.row, i * kTile + block.unit) + bias[i];
        auto cell = forward_element<gates, T>(a, t, b, j, x, g, block.h(tile), gates == 4 ? block.c(tile) : 0.0f);
        block.h(tile) = cell.h;
        if (gates == 4) block.c(tile) = cell.c;
      } else if (there) {
        no_element<T, float>(a, t, b, j);
      }
      block.give(step + 1, tile, 0, block.h(tile));
    }
    block.barrier.arrive();
  }
  block.write_states(gates == 4, a.h, a.c, hidden, a.batch);
}

}  // namespace

void persistent_forward(int64_t gates, const PersistentForward& p, Type type, cudaStream_t stream) {
  launch_persistent(gates, p, type, stream, [](auto gates, auto zero) {
    return persistent_forward_kernel<decltype(gates)::value, decltype(zero)>;
  });
}

}  // namespace s2s::cuda
