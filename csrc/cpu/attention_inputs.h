// What the two passes of the attention decoder share: its arguments in the computing dtype (but for keys and values),
// and its outputs.
#pragma once

#include <ATen/ops/zeros.h>

#include "cell.h"
#include "memory.h"

namespace s2s::cpu {

struct AttentionInputs : AttentionRecurrenceArguments {
  AttentionInputs(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths, const OptionalTensor& mask)
      : AttentionRecurrenceArguments(gates, list, lengths, mask, to_compute) {}

  bool pairs() const { return in_pairs(type); }
  Tensor zeros(at::IntArrayRef shape) const { return at::zeros(shape, x.options()); }

  double step_work(int64_t gates) const {
    return 2.0 * batch * (hidden * (gates * hidden + heads * attention) + feed * gates * hidden);
  }
};

struct AttentionOutputs {
  Tensor states, contexts, weights, feeds, h_n, c_n, gates, cells, queries;
};

}  // namespace s2s::cpu
