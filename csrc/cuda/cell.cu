// A thread an element: at the sizes of one step more threads hide more than wider loads save.
#include "cell_element.cuh"

namespace s2s::cuda {

namespace {

template <int gates, class T>
__global__ void __launch_bounds__(kThreads) step_forward_kernel(StepForward a) {
  using A = Accumulate<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.batch * a.hidden) return;
  int64_t at = index / a.hidden * gates * a.hidden + index % a.hidden;
  A x[gates], g[gates], state = static_cast<A>(static_cast<const T*>(a.state)[index]);
  read<gates, T>(a.gates_x, at, a.hidden, x);
  read<gates, T>(a.gates_h, at, a.hidden, g);
  Cell<gates, A> cell(x, g, state, state);
  static_cast<T*>(a.h)[index] = static_cast<T>(cell.h);
  if (a.c) static_cast<T*>(a.c)[index] = static_cast<T>(cell.c);
}

template <int gates, class T>
__global__ void __launch_bounds__(kThreads) step_backward_kernel(StepBackward a) {
  using A = Accumulate<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.batch * a.hidden) return;
  int64_t at = index / a.hidden * gates * a.hidden + index % a.hidden;
  A x[gates], g[gates], state = static_cast<A>(static_cast<const T*>(a.state)[index]);
  read<gates, T>(a.gates_x, at, a.hidden, x);
  read<gates, T>(a.gates_h, at, a.hidden, g);
  Cell<gates, A> cell(x, g, state, state);
  CellGradients<gates, A> grad(cell.saved, state, state, cell.c, read_or_zero<T, A>(a.grad_h, index),
                               read_or_zero<T, A>(a.grad_c, index));
  write<gates, T>(a.grad_gates_x, at, a.hidden, grad.gates_x);
  if (gates == 3) write<gates, T>(a.grad_gates_h, at, a.hidden, grad.gates_h);
  static_cast<T*>(a.grad_state)[index] = static_cast<T>(gates == 3 ? grad.h : grad.c);
}

template <int gates, class T>
__global__ void __launch_bounds__(kThreads) cell_forward_kernel(CellForward a) {
  using A = Accumulate<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.batch * a.hidden) return;
  int64_t b = index / a.hidden, j = index % a.hidden, t = a.step ? *a.step : a.t;
  A *h = static_cast<A*>(a.h) + index, *c = static_cast<A*>(a.c) + index;
  if (a.lengths && t >= a.lengths[b]) {  // the state stays
    no_element<T, A>(a, t, b, j);
  } else {
    A x[gates], g[gates];
    read_gates_x<gates, T>(a, t, b, j, x);
    read<gates, T>(a.gates_h, b * a.gates_h_strides.batch + t * a.gates_h_strides.step + j, a.hidden, g);
    auto cell = forward_element<gates, T>(a, t, b, j, x, g, *h, gates == 4 ? *c : A(0));
    (a.next_h ? static_cast<A*>(a.next_h) + index : h)[0] = cell.h;
    if (gates == 4) (a.next_c ? static_cast<A*>(a.next_c) + index : c)[0] = cell.c;
    if (a.rounded_h) static_cast<T*>(a.rounded_h)[index] = static_cast<T>(cell.h);
  }
  // The state that the next step begins from, where it is not the one that this step made.
  if (!is_reset(a.resets, a.lengths, b, a.resets.other, a.steps)) return;
  int64_t from = (b * a.steps + a.resets.other) * a.hidden + j;
  A new_h = read_or_zero<T, A>(a.resets.h, from);
  *h = new_h;
  if (gates == 4) *c = read_or_zero<T, A>(a.resets.c, from);
  if (a.rounded_h) static_cast<T*>(a.rounded_h)[index] = static_cast<T>(new_h);
}

template <int gates, class T>
__global__ void __launch_bounds__(kThreads) cell_backward_kernel(CellBackward a) {
  using A = Accumulate<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.batch * a.hidden) return;
  int64_t b = index / a.hidden, j = index % a.hidden;
  A *grad_h = static_cast<A*>(a.grad_h) + index, *grad_c = static_cast<A*>(a.grad_c) + index;
  A h = *grad_h + read_or_zero<T, A>(a.from_product, index), c = gates == 4 ? *grad_c : A(0);
  if (is_reset(a.resets, a.lengths, b, a.resets.other, a.steps)) {  // before the step that this one came after
    int64_t to = (b * a.steps + a.resets.other) * a.hidden + j;
    if (a.grad_reset_h) static_cast<T*>(a.grad_reset_h)[to] = static_cast<T>(h);
    if (gates == 4 && a.grad_reset_c) static_cast<T*>(a.grad_reset_c)[to] = static_cast<T>(c);
    h = c = 0;
  }
  A grad_gates_h[gates], grad_gates_x[gates];
  backward_element<gates, T>(a, a.step ? *a.step : a.t, b, j, h, c, grad_gates_h, grad_gates_x);
  if (a.copy_gates_x) write<gates, T>(a.copy_gates_x, b * gates * a.hidden + j, a.hidden, grad_gates_x);
  if (a.copy_gates_h) write<gates, T>(a.copy_gates_h, b * a.copy_stride + j, a.hidden, grad_gates_h);
  *grad_h = h;
  if (gates == 4) *grad_c = c;
}

}  // namespace

void step_forward(int64_t gates, const StepForward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    launch(gates == 3 ? step_forward_kernel<3, T> : step_forward_kernel<4, T>, blocks_of(a.batch * a.hidden), kThreads,
           stream, a);
  });
}

void step_backward(int64_t gates, const StepBackward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    launch(gates == 3 ? step_backward_kernel<3, T> : step_backward_kernel<4, T>, blocks_of(a.batch * a.hidden),
           kThreads, stream, a);
  });
}

void cell_forward(int64_t gates, const CellForward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    launch(gates == 3 ? cell_forward_kernel<3, T> : cell_forward_kernel<4, T>, blocks_of(a.batch * a.hidden), kThreads,
           stream, a);
  });
}

void cell_backward(int64_t gates, const CellBackward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    launch(gates == 3 ? cell_backward_kernel<3, T> : cell_backward_kernel<4, T>, blocks_of(a.batch * a.hidden),
           kThreads, stream, a);
  });
}

}  // namespace s2s::cuda
