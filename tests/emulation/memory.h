// What a block may know of another's writes. Memory through which blocks of one launch hand each other numbers is
// read and written by csrc/cuda/cooperative.cuh alone, which says so here. A read, or a write over what was read or
// written, is an error unless a release and an acquire (or the block's own barriers) order the two: whatever the
// order in which blocks happened to run, and whatever value it would have found. So is a read of what nobody wrote.
//
// The model: a release publishes what its block wrote before the last barrier of that block, and all that its block
// knew; a thread that acquires knows it at once, its block from its next barrier on. Not seen: numbers that blocks
// hand each other past cooperative.cuh; writes by a thread that releases without a barrier in between, and warps that
// rely on __syncwarp alone, are errors here though a GPU would take them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace s2s::emulation {

// How much is known of each block: what it did in its phases before this one. Its barriers divide its phases.
using Clock = std::vector<int64_t>;

void forget_memory();  // at the beginning of a launch

// Element `at` of `base`, and as many more as there are.
void writes(const void* base, int64_t at, size_t size, int count);
void reads(const void* base, int64_t at, size_t size, int count);

void releases(const void* flag);
void acquires(const void* flag);

// Who is at work. In fibers.cpp.
struct Self {
  int block, thread;
  int64_t phase;
  const Clock *of_block, *of_thread;  // what the block knew at its last barrier; what the thread has acquired since
};
Self self();
void learn(const Clock& clock);  // the thread that runs

}  // namespace s2s::emulation
