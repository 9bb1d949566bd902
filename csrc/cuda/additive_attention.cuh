// Additive attention on raw pointers. T is the type of the public tensors, Acc what it accumulates in (float, or
// double). query (B, T, N, A), keys (B, S, N, A), values (B, S, D), v (N, A).
#pragma once

#include "types.h"

namespace s2s::cuda {

struct AttentionSizes {
  int64_t batch, queries, heads, source, attention, width;  // B, T, N, S, A, D
};

struct AttentionForward : AttentionSizes {
  const void *query, *keys, *values, *v;  // T
  Strides query_strides;
  const int64_t* lengths;  // any value: clamped to 0..S; null: S
  const bool* mask;        // (B, S); null: all true
  const void* bias;        // T (B, T, S); null: none
  Strides bias_strides;
  void* context;        // T; null: weights alone are wanted
  void* exact_context;  // Acc, as context; null where T is Acc
  Strides context_strides;
  void* weights;        // T; null where T is Acc
  void* exact_weights;  // Acc
  Strides weights_strides;
  void* query_copy;  // Acc: queries as backward reads them; null: not wanted
  Strides query_copy_strides;
  // Where there are splits: Acc (B * T * N, splits, D + 2), and (B * T * N) zeros, which stay zeros.
  void* parts;
  unsigned* arrived;
  // Of one query: the step that all outputs (B, T, ...) are of, in the GPU's memory; null: they are of the first.
  const int32_t* step;
  void* context_copy;  // T (B, N * D): the context once more, where every step has it; null: not wanted
};

// Into how many parts S is split: 1 unless B, T and N are too small to fill a GPU.
int64_t attention_splits(const AttentionSizes& sizes);
void attention_forward(const AttentionForward& a, Type type, cudaStream_t stream);

// Gradients of the scores and of the queries, from those of contexts (the sum of two) and of weights.
struct AttentionBackward : AttentionSizes {
  const void* query;  // Acc
  Strides query_strides;
  const void *keys, *values, *v;                                // T
  const void* weights;                                          // Acc, exact; zero exactly where nothing may be read
  Strides weights_strides;                                      // of grad_scores as well
  const void *grad_context, *more_grad_context, *grad_weights;  // T; null: zero
  Strides grad_context_strides, more_grad_context_strides, grad_weights_strides;
  void* grad_scores;       // Acc
  void* sum_grad_context;  // T; null: not wanted
  Strides sum_grad_context_strides;
  void* grad_query;  // T; null: not wanted
  Strides grad_query_strides;
  // Of one query: the step of all that has steps, in the GPU's memory; null: the first.
  const int32_t* step;
  void* grad_query_copy;  // T: grad_query once more, where every step has it; null: not wanted
  Strides grad_query_copy_strides;
  // Where there are splits: Acc (B * T * N, splits, 2, A), (B * T * N, splits, 2), and (B * T * N) zeros, which stay
  // so.
  void* parts;
  double* moments;
  unsigned* arrived;
};

int64_t attention_backward_splits(const AttentionSizes& sizes);
void attention_backward(const AttentionBackward& a, Type type, cudaStream_t stream);

// Gradients of keys and v from those of the scores of all queries.
struct AttentionSourceBackward : AttentionSizes {
  const void* query;  // Acc
  Strides query_strides;
  const void *keys, *v;     // T
  const void* grad_scores;  // Acc, zero exactly where nothing may be read
  Strides grad_scores_strides;
  void* grad_keys;  // T (B, S, N, A)
  void* grad_v;     // Acc (B, source_groups(S), N, A), to be summed over the first two
};

int64_t source_groups(int64_t source);
void attention_source_backward(const AttentionSourceBackward& a, Type type, cudaStream_t stream);

}  // namespace s2s::cuda
