// One element of a recurrent cell: its formulas on the layouts of cell.cuh, for kernels of one step and of all.
#pragma once

#include "../math/gru.h"
#include "../math/lstm.h"
#include "cell.cuh"
#include "device.cuh"

namespace s2s::cuda {

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

// Element (b, j) of x's part of the gates at step t.
template <int gates, class T, class A>
__device__ void read_gates_x(const CellForward& a, int64_t t, int64_t b, int64_t j, A (&x)[gates]) {
  read<gates, T>(a.gates_x, b * a.gates_x_strides.batch + t * a.gates_x_strides.step + j, a.hidden, x);
  if (!a.more_gates) return;
  A more[gates];
  read<gates, T>(a.more_gates, b * a.more_gates_strides.batch + t * a.more_gates_strides.step + j, a.hidden, more);
#pragma unroll
  for (int i = 0; i < gates; i++) x[i] += more[i];
}

// Step t from x's and h's parts of the gates and the state before, to the outputs and to the cell that is returned.
template <int gates, class T, class A>
__device__ Cell<gates, A> forward_element(const CellForward& a, int64_t t, int64_t b, int64_t j, const A (&x)[gates],
                                          const A (&g)[gates], A h, A c) {
  int64_t out = b * a.output_strides.batch + t * a.output_strides.step + j;
  Cell<gates, A> cell(x, g, h, c);
  static_cast<T*>(a.output)[out] = static_cast<T>(cell.h);
  if (a.exact_output) static_cast<A*>(a.exact_output)[out] = cell.h;
  if (a.saved) write<4, A>(a.saved, (b * a.steps + t) * 4 * a.hidden + j, a.hidden, cell.saved);
  if (gates == 4 && a.cells) static_cast<A*>(a.cells)[out] = cell.c;
  return cell;
}

// A step in which row b takes no part.
template <class T, class A>
__device__ void no_element(const CellForward& a, int64_t t, int64_t b, int64_t j) {
  int64_t out = b * a.output_strides.batch + t * a.output_strides.step + j;
  static_cast<T*>(a.output)[out] = static_cast<T>(A(0));
  if (a.exact_output) static_cast<A*>(a.exact_output)[out] = A(0);
}

// Step t backward: the gradients of the state after it become the direct part of those of the state before it; those
// of the gates are written and returned. Where row b takes no part, they are zeros and the state's stay.
template <int gates, class T, class A>
__device__ void backward_element(const CellBackward& a, int64_t t, int64_t b, int64_t j, A& grad_h, A& grad_c,
                                 A (&grad_gates_h)[gates], A (&grad_gates_x)[gates]) {
  int64_t at = (b * a.steps + t) * a.hidden + j;
  int64_t at_x = b * a.grad_gates_x_strides.batch + t * a.grad_gates_x_strides.step + j;
  int64_t at_h = b * a.grad_gates_h_strides.batch + t * a.grad_gates_h_strides.step + j;
  int64_t length = a.lengths && a.lengths[b] < a.steps ? a.lengths[b] : a.steps;
  if (t >= length) {
    A zeros[gates] = {};
#pragma unroll
    for (int i = 0; i < gates; i++) grad_gates_h[i] = grad_gates_x[i] = A(0);
    if (a.grad_gates_x) write<gates, T>(a.grad_gates_x, at_x, a.hidden, zeros);
    write<gates, T>(a.grad_gates_h, at_h, a.hidden, zeros);
    if (a.h_before) static_cast<T*>(a.h_before)[at] = static_cast<T>(A(0));
    return;
  }
  int64_t t_before = a.reverse ? t + 1 : t - 1;
  bool first = t_before < 0 || t_before >= length;
  bool reset = is_reset(a.resets, a.lengths, b, t, a.steps);
  auto before = [&](const void* all, const void* initial, const void* replaced) {
    if (reset) return read_or_zero<T, A>(replaced, at);
    return first ? static_cast<A>(static_cast<const T*>(initial)[b * a.hidden + j])
                 : static_cast<const A*>(all)[at + (t_before - t) * a.hidden];
  };
  A saved[4], h_before = before(a.output, a.h0, a.resets.h), c_before = 0, c_after = 0, grad_c_after = 0;
  if (gates == 4) {
    c_before = before(a.cells, a.c0, a.resets.c);
    c_after = static_cast<const A*>(a.cells)[at];
    grad_c_after = grad_c + read_or_zero<T, A>(a.grad_cells, at);
  }
  read<4, A>(a.saved, (b * a.steps + t) * 4 * a.hidden + j, a.hidden, saved);
  CellGradients<gates, A> grad(saved, h_before, c_before, c_after, grad_h + read_or_zero<T, A>(a.grad_output, at),
                               grad_c_after);
  grad_h = grad.h, grad_c = grad.c;
  if (a.grad_gates_x) write<gates, T>(a.grad_gates_x, at_x, a.hidden, grad.gates_x);
  write<gates, T>(a.grad_gates_h, at_h, a.hidden, grad.gates_h);
  if (a.h_before) static_cast<T*>(a.h_before)[at] = static_cast<T>(h_before);
#pragma unroll
  for (int i = 0; i < gates; i++) grad_gates_h[i] = grad.gates_h[i], grad_gates_x[i] = grad.gates_x[i];
}

}  // namespace s2s::cuda
