// Small kernels, each right as compiled and wrong with its fault named: `faults ROW` says what the emulation says of
// it, `faults ROW right` runs it without.
#include "../cuda.h"
// clang-format off
#include "../../../csrc/cuda/tile.cuh"
// clang-format on

#include <cstdio>
#include <map>
#include <string>
#include <vector>

using namespace s2s;
using namespace s2s::cuda;

constexpr int kBlocks = 4;

struct Arguments {
  bool wrong;
  float* exchange;
  unsigned* flags;
  float* found;
};

// Every block gives a number, and after a barrier takes its neighbour's; twice, in the same place.
struct Steps {
  enum Fault { kNone, kNoBarrier, kNoRelease, kNoAcquire, kOneBufferOnly, kEarlyRelease };
  template <Fault fault>
  static void kernel(Arguments a) {
    bool wrong = a.wrong;
    Exchange<float> exchange{a.exchange};
    GroupBarrier barrier{a.flags, kBlocks};
    int block = blockIdx.x, neighbour = (block + 1) % kBlocks;
    for (int step = 0; step < 3; step++) {
      int buffer = fault == kOneBufferOnly && wrong ? 0 : step % 2;
      auto place = [&](int of) { return ((buffer * kBlocks + of) * kThreads + threadIdx.x) * 4; };
      if (fault == kEarlyRelease && wrong) {
        if (threadIdx.x == 0) release_add(a.flags, 1);
        barrier.expected += kBlocks;
      }
      for (int i = 0; i < 4; i++) exchange.write(place(block) + i, step * 100.0f + block);
      if (fault == kNoRelease && wrong) {
        __syncthreads();
        if (threadIdx.x == 0) atomicAdd(a.flags, 1u);
        barrier.expected += kBlocks;
      } else if (!(fault == kNoBarrier && wrong) && !(fault == kEarlyRelease && wrong)) {
        barrier.arrive();
      }
      if (fault == kNoAcquire && wrong) {
        while (*a.flags < barrier.expected) pause("the flag");
        __syncthreads();
      } else {
        barrier.wait();
      }
      a.found[block * kThreads + threadIdx.x] = exchange.read(place(neighbour)).at[0];
    }
  }
};

// One block does not arrive.
void absent(Arguments a) {
  GroupBarrier barrier{a.flags, kBlocks};
  if (a.wrong && blockIdx.x == 2) return;
  barrier.arrive();
  barrier.wait();
}

// One warp does not come to the block's barrier.
void divergent(Arguments a) {
  if (!a.wrong || blockIdx.x != 1 || threadIdx.x >= kLanes) __syncthreads();
  if (a.wrong && blockIdx.x == 1 && threadIdx.x < kLanes)
    while (true) pause("what never comes");
}

// A block's shared memory holds nothing of another's, nor of an earlier launch.
void shared(Arguments a) {
  float* mine = reinterpret_cast<float*>(shared_memory());
  if (!a.wrong || blockIdx.x == 0) mine[threadIdx.x] = 1;
  __syncthreads();
  a.found[blockIdx.x * kThreads + threadIdx.x] = mine[kThreads - 1 - threadIdx.x];
}

void no_block_barrier(Arguments a) {
  float* mine = reinterpret_cast<float*>(shared_memory());
  mine[threadIdx.x] = 1;
  if (!a.wrong) __syncthreads();
  a.found[blockIdx.x * kThreads + threadIdx.x] = mine[kThreads - 1 - threadIdx.x];
}

void not_written(Arguments a) {
  Exchange<float> exchange{a.exchange};
  if (!a.wrong)
    for (int i = 0; i < 4; i++) exchange.write((blockIdx.x * kThreads + threadIdx.x) * 4 + i, 1);
  a.found[blockIdx.x * kThreads + threadIdx.x] = exchange.read((blockIdx.x * kThreads + threadIdx.x) * 4).at[0];
}

void neighbour_thread(Arguments a) {
  Exchange<float> exchange{a.exchange + blockIdx.x * kThreads * 4};
  for (int i = 0; i < 4; i++) exchange.write(threadIdx.x * 4 + i, 1);
  if (!a.wrong) __syncthreads();
  a.found[blockIdx.x * kThreads + threadIdx.x] = exchange.read((threadIdx.x ^ 1) * 4).at[0];
}

void wrong_lane(Arguments a) {
  unsigned half = threadIdx.x % kLanes < 16 ? 0x0000ffffu : 0xffff0000u;
  float x = __shfl_xor_sync(half, static_cast<float>(threadIdx.x), a.wrong ? 16 : 8);
  a.found[blockIdx.x * kThreads + threadIdx.x] = x == (threadIdx.x ^ 8);
}

void outside_the_mask(Arguments a) {
  unsigned even = 0x55555555u;
  float x = 1;
  if (a.wrong || threadIdx.x % 2 == 0) x = __shfl_xor_sync(even, 1.0f, 2);
  a.found[blockIdx.x * kThreads + threadIdx.x] = x;
}

void returned_lane(Arguments a) {
  a.found[blockIdx.x * kThreads + threadIdx.x] = 1;
  if (threadIdx.x % kLanes == 5) return;
  __syncwarp(a.wrong ? 0xffffffffu : ~(1u << 5));
}

// Rows 0..15 of ones and twos times columns: the fragments of two registers in each other's place.
void fragments(Arguments a) {
  using Sums = TileSums<__nv_bfloat16, 8>;
  auto left = [](int row, int k) { return static_cast<float>((row * 5 + k * 3) % 7); };
  auto right = [](int k, int column) { return static_cast<float>((k * 2 + column) % 5); };
  int lane = threadIdx.x % kLanes;
  __nv_bfloat16 all_a[256], all_b[128];
  for (int k = 0; k < 16; k++) {
    for (int row = 0; row < 16; row++) all_a[Sums::left(row, k)] = left(row, k);
    for (int column = 0; column < 8; column++) all_b[Sums::right(k, column)] = right(k, column);
  }
  Pack<8, __nv_bfloat16> x;
  Pack<4, __nv_bfloat16> y;
  std::memcpy(&x, all_a + lane * 8, sizeof(x));
  std::memcpy(&y, all_b + lane * 4, sizeof(y));
  if (a.wrong) std::swap(x.at[2], x.at[4]), std::swap(x.at[3], x.at[5]);
  Sums sums;
  tile_mma<__nv_bfloat16>(x, y, sums.sums[0]);
  bool right_all = true;
  sums.each([&](int row, int column, float sum) {
    float truth = 0;
    for (int k = 0; k < 16; k++) truth += left(row, k) * right(k, column);
    right_all &= sum == truth;
  });
  a.found[blockIdx.x * kThreads + threadIdx.x] = right_all;
}

// Past the end of what was handed over; only AddressSanitizer sees that.
void out_of_bounds(Arguments a) {
  int last = kBlocks * kThreads - 1, index = blockIdx.x * kThreads + threadIdx.x;
  a.found[index] = a.found[index == last && a.wrong ? index + 1 : index] * 0 + 1;
}

void past_shared(Arguments a) {
  float* mine = reinterpret_cast<float*>(shared_memory());
  mine[threadIdx.x + (a.wrong ? 1 : 0)] = 1;
  a.found[blockIdx.x * kThreads + threadIdx.x] = 1;
}

int main(int count, char** arguments) {
  const std::map<std::string, void (*)(Arguments)> rows = {
      {"no barrier", Steps::kernel<Steps::kNoBarrier>},
      {"no release", Steps::kernel<Steps::kNoRelease>},
      {"early release", Steps::kernel<Steps::kEarlyRelease>},
      {"no acquire", Steps::kernel<Steps::kNoAcquire>},
      {"one buffer", Steps::kernel<Steps::kOneBufferOnly>},
      {"absent block", absent},
      {"divergent warp", divergent},
      {"shared memory", shared},
      {"no block barrier", no_block_barrier},
      {"not written", not_written},
      {"neighbour thread", neighbour_thread},
      {"wrong lane", wrong_lane},
      {"outside the mask", outside_the_mask},
      {"returned lane", returned_lane},
      {"fragments", fragments},
      {"out of bounds", out_of_bounds},
      {"past shared memory", past_shared},
  };
  if (count > 1 && std::string(arguments[1]) == "places") {  // of the fragments
    for (int lane = 0; lane < 32; lane++) {
      for (int i = 0; i < 8; i++)
        std::printf("a %d %d %d %d\n", lane, i, emulation::place_a(lane, i).row, emulation::place_a(lane, i).column);
      for (int i = 0; i < 4; i++)
        std::printf("b %d %d %d %d\n", lane, i, emulation::place_b(lane, i).row, emulation::place_b(lane, i).column);
      for (int i = 0; i < 4; i++)
        std::printf("c %d %d %d %d\n", lane, i, emulation::place_c(lane, i).row, emulation::place_c(lane, i).column);
    }
    return 0;
  }
  bool wrong = count < 3;
  try {
    for (emulation::seed = 1; emulation::seed <= 3; emulation::seed++) {
      std::vector<float> exchange(2 * kBlocks * kThreads * 4), found(kBlocks * kThreads, 1);
      std::vector<unsigned> flags(kBlocks);
      launch_together(rows.at(arguments[1]), kBlocks, kThreads, kThreads * sizeof(float), nullptr,
                      Arguments{wrong, exchange.data(), flags.data(), found.data()});
      for (float x : found)
        if (!(x > 0)) throw std::runtime_error("a wrong result");
    }
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
}
