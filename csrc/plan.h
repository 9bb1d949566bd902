// Whether and how a GPU runs a whole sequence of gru or lstm as one launch: csrc/cuda/persistent.cuh. Plain arithmetic,
// for any GPU on any machine.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/types.h"

namespace s2s::plan {

struct Gpu {
  int capability;  // 80: sm_80
  int multiprocessors;
  int64_t shared_bytes;  // that one block may have
  bool divided = false;  // by MIG, where not all of a launch's blocks need be placed at once
};

// The GPUs that have a name here, "sm_80" and "sm_90": an A100 and an H100.
Gpu gpu(const std::string& name);

struct Sequence {
  int64_t gates;  // 3: gru, 4: lstm
  int64_t batch, steps, hidden;
  cuda::Type type;
  bool resets = false;
  int64_t directions = 1;  // 2: of a layer, at once
};

// Forward or backward.
struct Launch {
  int64_t shared_bytes;    // of a block: weights, partial sums, the carried state
  int64_t exchange_bytes;  // of all groups of all directions
  int64_t read_bytes;      // a block and step, of what the others gave
  double step_us;          // predicted, not measured
};

struct Plan {
  std::string refusal;                        // why there is none; empty: there is one
  int64_t groups = 0, slices = 0, tiles = 0;  // groups: of a direction
  Launch forward = {}, backward = {};
  int64_t directions = 1;
};

Plan make(const Sequence& sequence, const Gpu& gpu);

// Whether a measurement says that the plan is faster than the loop of launches. None has been made yet.
bool measured_faster(const Sequence& sequence, const Gpu& gpu);

}  // namespace s2s::plan
