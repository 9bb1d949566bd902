// attention_gru and attention_lstm over all steps as one launch: ../README.md says how a step goes. Groups of rows and
// slices of the state are those of ../persistent.cuh; besides, the rows of a group are divided among its blocks, each
// of which scores some columns (a part) of one row's keys or several rows'. ../../plan_attention.h divides.
#pragma once

#include "../persistent.cuh"

namespace s2s::cuda {

// The source, as (B, S, ...) in T, and where a block keeps what it reads of it at every step.
struct PersistentSource {
  int64_t source, attention;  // S, A
  const void *keys, *v;       // (B, S, A), (A)
  const void* values;         // (B, S, gates * H): what the gates take of each value
  const int64_t* lengths;     // any value: clamped to 0..S; null: S
  const bool* mask;           // (B, S); null: all true
  int parts;                  // of a row's keys
  int span;                   // S and as many more as keep 16-byte loads of neighbours apart
  // In a block's shared memory, bytes from its beginning; of values and keys -1: read from global memory at each step.
  int64_t weights_at, values_at, keys_at;
};

// `cell` and what follows it are PersistentForward's; its lengths and more_gates are null.
struct PersistentAttentionForward {
  CellForward cell;
  const void *weight, *bias, *w_query, *b_query;  // T (gates * H, H), (A, H); null: no bias
  const void* first_gates;  // T (B, gates * H): what the gates take of a caller's first feed; null: none
  void* queries;            // T (B, T + 1, A), T steps
  PersistentSource source;
  Division division;
  void* exchanged_queries;  // T (groups, tiles, 16, A)
  float* exchanged_scores;  // (groups, parts, tiles * 16, span)
};

// `cell` and `weight` are PersistentBackward's.
struct PersistentAttentionBackward {
  CellBackward cell;
  const void *weight, *w_query;  // T
  // Of the T + 1 queries of a row, Acc: (B, T + 1, A) and (B, T + 1, S).
  const void *queries, *weights;
  const void* given_scores;  // as weights: what is known of the scores' gradients, from those of outputs; null: zeros
  void* grad_scores;         // as weights: all of them
  void* grad_queries;        // T
  Strides grad_query_strides;
  bool has_first;  // the first step is fed no context
  PersistentSource source;
  Division division;
  int64_t w_query_at;            // in a block's shared memory, bytes from its beginning
  void* exchanged_grad_queries;  // T (groups, tiles, 16, A), as an operand
  float* exchanged_parts;        // (groups, slices, tiles * 16, span): of the weights' gradients, a part each slice
};

void persistent_attention_forward(int64_t gates, const PersistentAttentionForward& p, Type type, cudaStream_t stream);
void persistent_attention_backward(int64_t gates, const PersistentAttentionBackward& p, Type type, cudaStream_t stream);

}  // namespace s2s::cuda
