// The emulated GPU: threads are fibers, which change places at barriers, at shuffles and where they wait for a flag.
//
// `run` has blocks one after the other, every other one with its threads in the opposite order, so that a missing
// barrier shows. `run_together` has all blocks of a launch alive at once and lets them run in a random order (`seed`):
// one is far ahead of another, as on a busy GPU. Shared memory is a block's own and begins as NaN. Whoever waits for
// ever is named.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

typedef struct CUstream_st* cudaStream_t;

namespace s2s::emulation {

struct Index {
  unsigned x;
};
extern Index thread_index, block_index;

// The stream that torch's own kernels would run on.
extern thread_local cudaStream_t stream;

// Of the order in which blocks run.
extern unsigned seed;
// Launches so far: of blocks that run one after the other, and of those that are alive together.
extern int64_t launches, launches_together;

void run(int64_t blocks, int threads, const std::function<void()>& body);
void run_together(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body);

// Of the block that runs: what the launch asked for, which `run_together` alone does; and a static variable's.
char* shared_memory();
char* block_memory(const void* key, size_t size);

void block_barrier();

// What a thread says while it waits in a loop for something that other threads do.
void pause(const char* waits_for);
// That something has changed which others may wait for.
void progress();

// What lanes of a warp do together: each in `mask` gives four words, the last to come calls `together` on all of
// them, and each gets a copy of its own row. A lane that is not in its mask, or has returned, is an error.
using Words = uint64_t[4];
void meet(unsigned mask, Words& mine, void (*together)(unsigned mask, Words* all), const char* name);

}  // namespace s2s::emulation
