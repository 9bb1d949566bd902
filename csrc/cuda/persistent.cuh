// gru and lstm over a whole sequence as one launch, both directions of a layer too: each has groups, weights and
// tensors of its own, and they never wait for each other. A group of blocks has some rows of the batch, in tiles of 16;
// each of its blocks, a slice, has 16 units of the state and keeps their weights in shared memory from the first step
// to the last. The product of a step needs all of the group's state (backward: all gradients of its gates): each slice
// gives its part to the others through exchanged memory of two steps in turn, and one barrier of the group a step is
// all that they wait for. (Whoever writes a step's part has passed the barrier of the step before, where all had read
// what the one before that left in the same place.) ../plan.h divides.
#pragma once

#include "cell.cuh"

namespace s2s::cuda {

struct Division {
  int directions, groups, slices, tiles;  // groups: of a direction; tiles: of a group, at most
  int64_t shared_bytes;
  void* exchange;     // T: (directions, groups, 2, tiles, 16, depth), depth as of the product
  unsigned* arrived;  // (directions, groups), zeros
};

// h and c of `cell`: the first state, then the last. Its t, gates_h, next_h, next_c, rounded_h and resets are not read.
struct PersistentForward {
  struct Direction {
    CellForward cell;
    bool reverse;
    const void *weight, *bias;  // T (gates * H, H), (gates * H); null: no bias
  };
  Division division;
  Direction of[2];
};

// grad_h and grad_c of `cell`: of the last state, then of the first. Its t, from_product and resets are not read.
struct PersistentBackward {
  struct Direction {
    CellBackward cell;
    const void* weight;
  };
  Division division;
  Direction of[2];
};

void persistent_forward(int64_t gates, const PersistentForward& p, Type type, cudaStream_t stream);
void persistent_backward(int64_t gates, const PersistentBackward& p, Type type, cudaStream_t stream);

}  // namespace s2s::cuda
