// Whether and how a GPU runs all steps of attention_gru or attention_lstm as one launch:
// csrc/cuda/persistent_attention. Plain arithmetic, as plan.h's.
#pragma once

#include "plan.h"

namespace s2s::plan {

struct Decoder : Sequence {
  int64_t source, attention, heads;  // S, A, N
  bool has_feed;                     // w_feed: what is fed is no context
};

struct DecoderLaunch : Launch {
  int64_t barriers;  // of a group, a step
  // In a block's shared memory, bytes from its beginning; -1: read from global memory at each step.
  int64_t weights_at, values_at, keys_at;  // weights: of attention; backward: what a phase needs
  int64_t w_query_at;                      // backward; forward it lies with the other weights
  // In exchanged memory, bytes: after the state, or its gates' gradients, what a step hands on next, and after that.
  int64_t second_at, third_at;
};

struct DecoderPlan {
  std::string refusal;
  int64_t groups = 0, slices = 0, tiles = 0;
  int64_t parts = 0;  // blocks that share a row's keys
  int64_t span = 0;   // S, and as many more as keep 16-byte loads of neighbours in different banks
  DecoderLaunch forward = {}, backward = {};
  static constexpr int64_t directions = 1;
};

DecoderPlan make(const Decoder& decoder, const Gpu& gpu);

// Whether a measurement says that the plan is faster than the loop of launches. None has been made yet.
bool measured_faster(const Decoder& decoder, const Gpu& gpu);

}  // namespace s2s::plan
