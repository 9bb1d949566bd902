// Memory in which the blocks of a launch that share a source leave what they found, for the last of them.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "additive_attention.cuh"
#include "glue.h"

namespace s2s::cuda {

// To be kept while launches are under way; undefined where there are no splits.
struct Splits {
  Tensor parts, arrived, moments;
};

inline Splits split(const AttentionSizes& a, int64_t splits, int64_t size, const Tensor& like) {
  if (splits == 1) return {};
  int64_t rows = a.batch * a.queries * a.heads;
  return {at::empty({rows, splits, size}, like.options().dtype(accumulate_type(like.scalar_type()))),
          at::zeros({rows}, like.options().dtype(at::kInt)), Tensor()};
}

inline Splits split_forward(AttentionForward& a, const Tensor& like) {
  Splits made = split(a, attention_splits(a), a.width + 2, like);
  a.parts = data(made.parts), a.arrived = static_cast<unsigned*>(data(made.arrived));
  return made;
}

inline Splits split_backward(AttentionBackward& a, const Tensor& like) {
  Splits made = split(a, attention_backward_splits(a), 2 * a.attention, like);
  if (made.parts.defined())
    made.moments = at::empty({made.parts.size(0), made.parts.size(1), 2}, like.options().dtype(at::kDouble));
  a.parts = data(made.parts), a.moments = static_cast<double*>(data(made.moments));
  a.arrived = static_cast<unsigned*>(data(made.arrived));
  return made;
}

}  // namespace s2s::cuda
