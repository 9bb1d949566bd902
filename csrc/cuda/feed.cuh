// Luong's attentional vector, f = tanh(W_f [h ; c] + b_f), after its products: elementwise over (B, F); with all of the
// sum in one part, any layer's tanh.
#pragma once

#include "types.h"

namespace s2s::cuda {

// All pointers at the step's own elements; `strides` of the batch alone.
struct FeedForward {
  int64_t batch, width;
  const void *h_part, *c_part;  // T; h_part null: all of the sum is in c_part
  int64_t h_part_stride, c_part_stride;
  void* feed;        // T
  void* exact_feed;  // Acc; null: not wanted
  int64_t feed_stride;
  const int32_t* step;  // in the GPU's memory, `width` elements of feed each; null: 0
  void* feed_copy;      // T (B, F): the feed once more, where every step has it; null: not wanted
};

struct FeedBackward {
  int64_t batch, width;
  const void* feed;  // Acc, unrounded
  int64_t feed_stride;
  const void *grad, *more_grad;  // T: the sum of both is the gradient of the feed; null: zero
  int64_t grad_stride, more_grad_stride;
  void* grad_sum;  // T: the gradient of the sum under tanh
  int64_t grad_sum_stride;
  // In the GPU's memory: so many elements further, `width` of feed and more_grad, sum_step of grad_sum; null: 0.
  const int32_t* step;
  int64_t sum_step;
  void* grad_sum_copy;  // T: grad_sum once more, where every step has it; null: not wanted
  int64_t copy_stride;
};

void feed_forward(const FeedForward& a, Type type, cudaStream_t stream);
void feed_backward(const FeedBackward& a, Type type, cudaStream_t stream);

}  // namespace s2s::cuda
