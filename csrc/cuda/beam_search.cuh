// The kernels of a search, which follow the logits of each step: what is chosen, and what the next step starts from.
//
// Rows are pairs (b, j) of a sentence and one of its K prefixes. The vocabulary is cut into slices: of each one
// search_candidates leaves the softmax sums and the best tokens, best first, and search_select merges those lists for
// each sentence. The number of the step is in memory, so that the same launches make every step. A sentence that is
// done does nothing in any of them.
#pragma once

#include "types.h"

namespace s2s::cuda {

constexpr int kSlice = 512;         // tokens
constexpr int kForbiddenOnce = 64;  // tokens of one launch

// T is the type of the decoder's tensors, Acc what it accumulates in. All contiguous.
struct SearchState {
  int64_t batch, beam, vocab, source, heads, steps;  // B, K, V, S, N, T: max_length + 1
  int64_t slices, kept, chosen;                      // P: of V; M: tokens of each that are kept; candidates of a step
  int64_t eos, n_best;
  const void* logits;              // T (B, K, V)
  const uint8_t* forbidden;        // (V); null: no token is
  const int64_t* limits;           // (B), any value; null: T - 1
  const void* weights;             // Acc (B, K, N, S)
  const int64_t* lengths;          // (B), any value; null: S
  const bool* mask;                // (B, S); null: all true
  int32_t *step, *remaining;       // (1): its number; sentences that go on
  int32_t* alive;                  // (B)
  void* factors;                   // Acc (T + 2): lp of so many tokens
  void *most, *total;              // Acc (B, K, P): of each slice the largest logit, and sum exp(logit - largest)
  void* values;                    // Acc (B, K, P, M): the best logits of each slice, best first, -inf after the last
  int32_t* tokens;                 // (B, K, P, M)
  int32_t* taken;                  // (B, K, P): how many of them are chosen
  void *row_most, *row_log;        // Acc (B, K): log softmax(x) = (x - row_most) - row_log
  void *scores, *next_scores;      // Acc (B, K): log P of the prefixes, best first; -inf of none
  int32_t *next_tokens, *origins;  // (B, K): what the prefixes of the next step end with, and the rows they continue
  int32_t *path_tokens, *path_parents;  // (B, T, K): the same, step after step, and their prefixes before
  void* ended;                          // Acc (B, T, K): scores of the outputs that end there, else -inf
  int32_t* ended_parents;               // (B, T, K)
  void* history;                        // Acc (T, B, K, S): where each row looked; null: not wanted
  void *attended, *next_attended;       // Acc (B, K, S): the sum of it; null: no coverage penalty
  void* coverage;                       // Acc (B, K)
  double length_penalty, coverage_penalty;
};

// Everything as it is before the first step.
void search_start(const SearchState& a, Type type, cudaStream_t stream);

struct Forbidden {
  int32_t tokens[kForbiddenOnce];
};
void search_forbid(uint8_t* forbidden, const Forbidden& list, int64_t count, cudaStream_t stream);

void search_candidates(const SearchState& a, Type type, cudaStream_t stream);
// The mean over a row's heads, added to history and attended; only where one of those is wanted.
void search_look(const SearchState& a, Type type, cudaStream_t stream);
// One after another the best of the lists' heads is taken, of equal ones that of the better prefix, then of the larger
// logit, then of the lower token.
void search_select(const SearchState& a, Type type, cudaStream_t stream);

// What each row of the next step starts from: all of the row that it continues, and its token's embedding.
struct SearchAdvance {
  int64_t hidden, inputs, feed;  // H, E, F
  const void *next_h, *next_c;   // Acc (B, K, H); next_c null: none
  void *h, *c;
  void* rounded_h;        // T (B, K, H); null where T is Acc
  const void* embedding;  // T (V, E)
  void *x, *more_x;       // T (B, K, E): two places for it; more_x null: one
  const void* fed;        // T (B, K, F), to be fed next; null: none
  void* next_fed;
  int64_t x_stride, more_x_stride, fed_stride, next_fed_stride;  // between rows
};
void search_advance(const SearchState& a, const SearchAdvance& b, Type type, cudaStream_t stream);

// The best outputs; of equal ones those that ended first.
struct SearchOutputs {
  int64_t *ids, *lengths;  // (B, n, T), (B, n)
  void *scores, *weights;  // Acc (B, n), (B, n, T, S); weights null: not wanted
};
void search_read(const SearchState& a, const SearchOutputs& out, Type type, cudaStream_t stream);

}  // namespace s2s::cuda
