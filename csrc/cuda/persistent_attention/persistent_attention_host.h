// Whether the attention decoder runs as one launch, and that launch.
#pragma once

#include <optional>

#include "../../plan_attention.h"
#include "../cell.cuh"
#include "../glue.h"

namespace s2s::cuda {

// None where there is none, or none is wanted (persistent_wanted).
std::optional<plan::DecoderPlan> persistent_plan(int64_t gates, const AttentionRecurrenceArguments& in);

// All T steps and the query of step T; `cell`: what the loop would give each step. Queries (B, T + 1, A), from which
// all attention that is an output can be computed at once.
Tensor run_persistent_forward(const plan::DecoderPlan& plan, int64_t gates, const AttentionRecurrenceArguments& in,
                              const Tensor& lengths, const Tensor& mask, const CellForward& cell);

// Of all T + 1 queries of a row: the queries and weights, unrounded, and the gradients of the scores; given: what is
// known of those, from the gradients of outputs. grad_queries: the query's columns (B, T + 1, A) of some tensor.
struct PersistentQueries {
  Tensor queries, weights, given_scores, grad_scores, grad_queries;
};
void run_persistent_backward(const plan::DecoderPlan& plan, int64_t gates, const AttentionRecurrenceArguments& in,
                             const Tensor& lengths, const Tensor& mask, const CellBackward& cell,
                             const PersistentQueries& all);

}  // namespace s2s::cuda
