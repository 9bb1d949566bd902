// A thread an element: at the sizes of one step more threads hide more than wider loads save.
#include "../math/gru.h"
#include "../math/lstm.h"
#include "cell.cuh"
#include "device.cuh"

namespace s2s::cuda {

namespace {

// What a step makes of its sums, and their gradients; `saved` is what backward reads of the gates.
template <int gates, class A>
struct Cell;

template <class A>
struct Cell<3, A> {
  A h, c, saved[4];

  __device__ Cell(const A (&x)[3], const A (&g)[3], A h_before, A) : c(0) {
    auto made = math::gru_gates(x[0], x[1], x[2], g[0], g[1], g[2]);
    saved[0] = made.r, saved[1] = made.z, saved[2] = made.n, saved[3] = g[2];
    h = math::gru_state(made.z, made.n, h_before);
  }
};

template <class A>
struct Cell<4, A> {
  A h, c, saved[4];

  __device__ Cell(const A (&x)[4], const A (&g)[4], A, A c_before) {
    auto made = math::lstm_gates(x[0] + g[0], x[1] + g[1], x[2] + g[2], x[3] + g[3]);
    saved[0] = made.i, saved[1] = made.f, saved[2] = made.g, saved[3] = made.o;
    c = math::lstm_cell(made.i, made.f, made.g, c_before);
    h = math::lstm_state(made.o, c);
  }
};

template <int gates, class A>
struct CellGradients;

template <class A>
struct CellGradients<3, A> {
  A gates_x[3], gates_h[3], h, c;

  __device__ CellGradients(const A (&saved)[4], A h_before, A, A, A grad_h, A) : c(0) {
    auto grad = math::gru_backward(saved[0], saved[1], saved[2], saved[3], h_before, grad_h);
    gates_x[0] = gates_h[0] = grad.r, gates_x[1] = gates_h[1] = grad.z;
    gates_x[2] = grad.n, gates_h[2] = grad.h_n;
    h = grad.h;
  }
};

template <class A>
struct CellGradients<4, A> {
  A gates_x[4], gates_h[4], h, c;

  __device__ CellGradients(const A (&saved)[4], A, A c_before, A c_after, A grad_h, A grad_c) : h(0) {
    auto grad = math::lstm_backward(saved[0], saved[1], saved[2], saved[3], c_before, c_after, grad_h, grad_c);
    gates_x[0] = gates_h[0] = grad.i, gates_x[1] = gates_h[1] = grad.f;
    gates_x[2] = gates_h[2] = grad.g, gates_x[3] = gates_h[3] = grad.o;
    c = grad.c;
  }
};

// Element (b, j) of `gates` blocks of H.
template <int gates, class T, class A>
__device__ void read(const void* p, int64_t at, int64_t hidden, A (&to)[gates]) {
#pragma unroll
  for (int i = 0; i < gates; i++) to[i] = static_cast<A>(static_cast<const T*>(p)[at + i * hidden]);
}

template <int gates, class T, class A>
__device__ void write(void* p, int64_t at, int64_t hidden, const A (&from)[gates]) {
#pragma unroll
  for (int i = 0; i < gates; i++) static_cast<T*>(p)[at + i * hidden] = static_cast<T>(from[i]);
}

template <class T, class A>
__device__ A read_or_zero(const void* p, int64_t at) {
  return p ? static_cast<A>(static_cast<const T*>(p)[at]) : A(0);
}

// Whether row b is reset before step t.
__device__ inline bool is_reset(const Resets& resets, const int64_t* lengths, int64_t b, int64_t t, int64_t steps) {
  return resets.at && t >= 0 && t < steps && !(lengths && t >= lengths[b]) && resets.at[b * steps + t];
}

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
  int64_t b = index / a.hidden, j = index % a.hidden;
  int64_t out = b * a.output_strides.batch + a.t * a.output_strides.step + j;
  A *h = static_cast<A*>(a.h) + index, *c = static_cast<A*>(a.c) + index;
  // The state that the next step begins from, where it is not the one that this step made.
  bool reset = is_reset(a.resets, a.lengths, b, a.resets.other, a.steps);
  int64_t from = (b * a.steps + a.resets.other) * a.hidden + j;
  auto replace = [&] {
    A new_h = read_or_zero<T, A>(a.resets.h, from);
    *h = new_h;
    if (gates == 4) *c = read_or_zero<T, A>(a.resets.c, from);
    if (a.rounded_h) static_cast<T*>(a.rounded_h)[index] = static_cast<T>(new_h);
  };
  if (a.lengths && a.t >= a.lengths[b]) {  // takes no part: the state stays
    static_cast<T*>(a.output)[out] = static_cast<T>(A(0));
    if (a.exact_output) static_cast<A*>(a.exact_output)[out] = A(0);
    if (reset) replace();
    return;
  }
  A x[gates], g[gates];
  read<gates, T>(a.gates_x, b * a.gates_x_strides.batch + a.t * a.gates_x_strides.step + j, a.hidden, x);
  read<gates, T>(a.gates_h, b * a.gates_h_strides.batch + a.t * a.gates_h_strides.step + j, a.hidden, g);
  if (a.more_gates) {
    A more[gates];
    read<gates, T>(a.more_gates, b * a.more_gates_strides.batch + a.t * a.more_gates_strides.step + j, a.hidden, more);
#pragma unroll
    for (int i = 0; i < gates; i++) x[i] += more[i];
  }
  Cell<gates, A> cell(x, g, *h, gates == 4 ? *c : A(0));
  (a.next_h ? static_cast<A*>(a.next_h) + index : h)[0] = cell.h;
  if (gates == 4) (a.next_c ? static_cast<A*>(a.next_c) + index : c)[0] = cell.c;
  if (a.rounded_h) static_cast<T*>(a.rounded_h)[index] = static_cast<T>(cell.h);
  static_cast<T*>(a.output)[out] = static_cast<T>(cell.h);
  if (a.exact_output) static_cast<A*>(a.exact_output)[out] = cell.h;
  if (a.saved) write<4, A>(a.saved, (b * a.steps + a.t) * 4 * a.hidden + j, a.hidden, cell.saved);
  if (gates == 4 && a.cells) static_cast<A*>(a.cells)[out] = cell.c;
  if (reset) replace();
}

template <int gates, class T>
__global__ void __launch_bounds__(kThreads) cell_backward_kernel(CellBackward a) {
  using A = Accumulate<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.batch * a.hidden) return;
  int64_t b = index / a.hidden, j = index % a.hidden, at = (b * a.steps + a.t) * a.hidden + j;
  int64_t at_x = b * a.grad_gates_x_strides.batch + a.t * a.grad_gates_x_strides.step + j;
  int64_t at_h = b * a.grad_gates_h_strides.batch + a.t * a.grad_gates_h_strides.step + j;
  A *grad_h = static_cast<A*>(a.grad_h) + index, *grad_c = static_cast<A*>(a.grad_c) + index;
  A from_after = *grad_h + read_or_zero<T, A>(a.from_product, index);
  if (is_reset(a.resets, a.lengths, b, a.resets.other, a.steps)) {  // before the step that this one came after
    int64_t to = (b * a.steps + a.resets.other) * a.hidden + j;
    if (a.grad_reset_h) static_cast<T*>(a.grad_reset_h)[to] = static_cast<T>(from_after);
    from_after = 0;
    if (gates == 4) {
      if (a.grad_reset_c) static_cast<T*>(a.grad_reset_c)[to] = static_cast<T>(*grad_c);
      *grad_c = 0;
    }
  }
  int64_t length = a.lengths && a.lengths[b] < a.steps ? a.lengths[b] : a.steps;
  if (a.t >= length) {  // took no part: the gradients stay
    A zeros[gates] = {};
    *grad_h = from_after;
    if (a.grad_gates_x) write<gates, T>(a.grad_gates_x, at_x, a.hidden, zeros);
    write<gates, T>(a.grad_gates_h, at_h, a.hidden, zeros);
    if (a.h_before) static_cast<T*>(a.h_before)[at] = static_cast<T>(A(0));
    return;
  }
  int64_t t_before = a.reverse ? a.t + 1 : a.t - 1;
  bool first = t_before < 0 || t_before >= length;
  bool reset = is_reset(a.resets, a.lengths, b, a.t, a.steps);
  auto before = [&](const void* all, const void* initial, const void* replaced) {
    if (reset) return read_or_zero<T, A>(replaced, at);
    return first ? static_cast<A>(static_cast<const T*>(initial)[index])
                 : static_cast<const A*>(all)[at + (t_before - a.t) * a.hidden];
  };
  A saved[4], h_before = before(a.output, a.h0, a.resets.h), c_before = 0, c_after = 0, grad_c_after = 0;
  if (gates == 4) {
    c_before = before(a.cells, a.c0, a.resets.c);
    c_after = static_cast<const A*>(a.cells)[at];
    grad_c_after = *grad_c + read_or_zero<T, A>(a.grad_cells, at);
  }
  read<4, A>(a.saved, (b * a.steps + a.t) * 4 * a.hidden + j, a.hidden, saved);
  CellGradients<gates, A> grad(saved, h_before, c_before, c_after, from_after + read_or_zero<T, A>(a.grad_output, at),
                               grad_c_after);
  *grad_h = grad.h;
  if (gates == 4) *grad_c = grad.c;
  if (a.grad_gates_x) write<gates, T>(a.grad_gates_x, at_x, a.hidden, grad.gates_x);
  write<gates, T>(a.grad_gates_h, at_h, a.hidden, grad.gates_h);
  if (a.h_before) static_cast<T*>(a.h_before)[at] = static_cast<T>(h_before);
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
