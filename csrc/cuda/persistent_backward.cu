#include "persistent_block.cuh"

namespace s2s::cuda {

namespace {

template <int gates, class T>
__global__ void __launch_bounds__(kThreads, 1)
    persistent_backward_kernel(const __grid_constant__ PersistentBackward p) {
  PersistentBlock<T, kTile> block(p.division, gates, p.of[0].cell.batch);
  const PersistentBackward::Direction& of = p.of[block.direction];
  const CellBackward& a = of.cell;
  int64_t hidden = a.hidden, j = block.j;
  const T* weight = static_cast<const T*>(of.weight);
  block.product.fill([&](int k, int column) { return weight[k * hidden + block.slice * kTile + column]; });
  block.read_states(gates == 4, a.grad_h, a.grad_c, hidden, a.batch);
  for (int64_t step = 0; step < a.steps; step++) {
    int64_t t = a.reverse ? step : a.steps - 1 - step;
    for (int tile = 0; tile < block.tiles; tile++) {
      int64_t b = block.batch_row(tile);
      float grad_gates_h[gates] = {}, grad_gates_x[gates], grad_c = gates == 4 ? block.c(tile) : 0.0f;
      if (b < a.batch) backward_element<gates, T>(a, t, b, j, block.h(tile), grad_c, grad_gates_h, grad_gates_x);
      if (gates == 4) block.c(tile) = grad_c;
#pragma unroll
      for (int i = 0; i < gates; i++) block.give(step, tile, i, grad_gates_h[i]);
    }
    block.barrier.arrive();
    block.barrier.wait();
    for (int tile = 0; tile < block.tiles; tile++) {
      block.multiply(step, tile);
      block.h(tile) += block.product.at(block.row, block.unit);
    }
  }
  block.write_states(gates == 4, a.grad_h, a.grad_c, hidden, a.batch);
}

}  // namespace

void persistent_backward(int64_t gates, const PersistentBackward& p, Type type, cudaStream_t stream) {
  launch_persistent(gates, p, type, stream, [](auto gates, auto zero) {
    return persistent_backward_kernel<decltype(gates)::value, decltype(zero)>;
  });
}

}  // namespace s2s::cuda
