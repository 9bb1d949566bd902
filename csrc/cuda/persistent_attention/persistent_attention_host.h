// Whether the attention decoder runs as one launch, and that launch.
#pragma once

#include "../cell.cuh"
#include "../glue.h"

namespace s2s::cuda {

// The steps 0..T-1 of the loop and the query of step T, where there is a plan and it is wanted (as of
// persistent_launch); `cell`: what the loop would give each step. Queries (B, T + 1, A), from which all attention that
// is an output can be computed at once; undefined: nothing was done.
Tensor run_persistent_forward(int64_t gates, const AttentionRecurrenceArguments& in, const Tensor& lengths,
                              const Tensor& mask, const CellForward& cell);

}  // namespace s2s::cuda
