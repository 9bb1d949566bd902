// The recurrent cells on raw pointers: one step, elementwise over (B, H). T is the type of the public tensors, Acc
// what it accumulates in. `gates` is 3 for a GRU, 4 for an LSTM; gates lie as r z n, or i f g o.
#pragma once

#include "types.h"

namespace s2s::cuda {

// Everything contiguous: gates (B, gates * H), h and c (B, H), all T.
struct StepForward {
  int64_t batch, hidden;
  const void *gates_x, *gates_h;
  const void* state;  // a GRU's h, an LSTM's c
  void *h, *c;
};

struct StepBackward {
  int64_t batch, hidden;
  const void *gates_x, *gates_h, *state;
  const void *grad_h, *grad_c;        // null: zero
  void *grad_gates_x, *grad_gates_h;  // an LSTM's are one: grad_gates_h is not written
  void* grad_state;
};

void step_forward(int64_t gates, const StepForward& a, Type type, cudaStream_t stream);
void step_backward(int64_t gates, const StepBackward& a, Type type, cudaStream_t stream);

// Where the state of a row is replaced before a step, and by what. A row has none past its length.
struct Resets {
  const bool* at;      // (B, T); null: nowhere
  const void *h, *c;   // T (B, T, H); null: zeros
  int64_t other = -1;  // the step after this one; none: outside of 0..T-1
};

// Step `t` of `steps` within a sequence. The state is kept in Acc; what a product reads of it is rounded to T.
struct CellForward {
  int64_t batch, hidden, steps, t;
  const int32_t* step;                         // t in the GPU's memory, in place of t; null: t
  Resets resets;                               // before the step that comes next
  const int64_t* lengths;                      // any value: a row takes part while t < its length; null: always
  const void *gates_x, *gates_h, *more_gates;  // T; more_gates: null, or added to gates_x
  Strides gates_x_strides, gates_h_strides, more_gates_strides;
  void *h, *c;            // Acc (B, H): the state before, then after
  void *next_h, *next_c;  // Acc (B, H): where the state after goes instead; null: to h and c
  void* rounded_h;        // T (B, H); null where T is Acc
  void* output;           // T (B, T, H): zero where a row takes no part
  Strides output_strides;
  void* exact_output;   // Acc, as output; null: not wanted
  void *saved, *cells;  // Acc (B, T, 4H): r z n W_hn h, or i f g o; Acc, as output; null: not wanted
};

struct CellBackward {
  int64_t batch, hidden, steps, t;
  Resets resets;  // before this step, and before the one that backward came from
  bool reverse;
  const int64_t* lengths;
  const void *saved, *output, *cells;  // Acc: what forward saved, output unrounded
  const void *h0, *c0;                 // T (B, H)
  const void* grad_output;             // T (B, T, H); null: zero
  const void* from_product;            // T (B, H): what the step after adds to the gradient of h; null: zero
  void *grad_h, *grad_c;               // Acc (B, H): gradients of the state after, then the direct part before
  void *grad_gates_x, *grad_gates_h;   // T; an LSTM's are equal; grad_gates_x null: not wanted
  Strides grad_gates_x_strides, grad_gates_h_strides;
  void* h_before;       // T (B, T, H): the state before each step, zero where none; null: not wanted
  const int32_t* step;  // t in the GPU's memory, in place of t; null: t
  // T (B, gates * H), copy_stride elements between rows: the gates' gradients once more, where every step has them.
  void *copy_gates_x, *copy_gates_h;  // null: not wanted
  int64_t copy_stride;                // of copy_gates_h
  const void* grad_cells;             // T (B, T, H); null: zero
  void *grad_reset_h, *grad_reset_c;  // T (B, T, H): written where there is a reset; null: not wanted
};

void cell_forward(int64_t gates, const CellForward& a, Type type, cudaStream_t stream);
void cell_backward(int64_t gates, const CellBackward& a, Type type, cudaStream_t stream);

}  // namespace s2s::cuda
