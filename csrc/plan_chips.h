// What the plans know of GPUs, and assume of their times.
#pragma once

#include <algorithm>
#include <array>

#include "plan.h"

namespace s2s::plan {

constexpr int64_t kTile = 16, kWarps = 8, kThreads = 256;  // as in csrc/cuda

struct Chip {
  const char* name;
  Gpu gpu;
  double gigahertz;
  double products;  // multiplications of 16 bits a cycle and multiprocessor, by mma.sync
};

constexpr std::array<Chip, 2> kChips = {{
    {"sm_80", {80, 108, 163 << 10}, 1.41, 1024},
    {"sm_90", {90, 132, 227 << 10}, 1.75, 1270},
}};

inline const Chip& chip_of(const Gpu& gpu) { return gpu.capability < 90 ? kChips[0] : kChips[1]; }

inline int64_t size_of(cuda::Type type) { return type == cuda::Type::kFloat ? 4 : 2; }

// What a step takes, assumed from what others have measured of these chips: a release, and an acquire that sees it,
// are about three trips to the L2 cache; a tile then waits for its operand, and for two barriers of the block around
// the sums. Products wait for whichever is slower of tensor cores and shared memory, at 128 bytes a cycle; other
// blocks' parts come at 64.
constexpr double kBarrier = 1.1, kOperand = 0.4, kSums = 0.35, kShared = 128, kOthers = 64;

// Cycles of the product of a tile of 16 rows.
inline double product_cycles(const Chip& chip, int64_t columns, int64_t depth, int64_t size) {
  double products = static_cast<double>(kTile * columns * depth) / (size == 4 ? 128 : chip.products);
  double weights = static_cast<double>(columns * depth * size) / kShared;
  return std::max(products, weights) + static_cast<double>(kTile * depth * size) / kOthers;
}

inline double microseconds(const Chip& chip, double cycles) { return cycles / (1000 * chip.gigahertz); }

// Groups, slices and tiles alone, for a launch that has so many barriers a step; or why there are none.
Plan divide(const Sequence& sequence, const Gpu& gpu, int64_t barriers);
Plan too_large(int64_t bytes_of_a_block, const Gpu& gpu);

}  // namespace s2s::plan
