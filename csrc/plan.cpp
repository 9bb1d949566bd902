#include "plan.h"

#include <stdexcept>

#include "plan_chips.h"

namespace s2s::plan {

namespace {

// Rows that say: on this architecture, for this cell and these sizes, one launch is faster. To be filled by
// measurement alone.
struct Row {
  int capability;
  int64_t gates, directions;
  bool sixteen_bits;
  int64_t least_hidden, most_hidden, least_batch, most_batch;
};
constexpr std::array<Row, 0> kMeasured = {};

Launch launch(const Chip& chip, const Plan& plan, int64_t columns, int64_t depth, int64_t states, int64_t size) {
  int64_t operand = plan.tiles * kTile * depth * size;
  return {columns * depth * size + 4 * (kWarps * kTile * columns + states * plan.tiles * kThreads),
          plan.directions * plan.groups * 2 * operand, operand,
          kBarrier + plan.tiles * (kOperand + kSums + microseconds(chip, product_cycles(chip, columns, depth, size)))};
}

}  // namespace

Gpu gpu(const std::string& name) {
  for (const Chip& chip : kChips)
    if (name == chip.name) return chip.gpu;
  throw std::invalid_argument("arch is " + name + ", expected sm_80 or sm_90");
}

Plan divide(const Sequence& s, const Gpu& gpu, int64_t barriers) {
  auto refuse = [](const std::string& why) { return Plan{why}; };
  auto text = [](int64_t number) { return std::to_string(number); };
  if (s.type == cuda::Type::kDouble) return refuse("dtype is float64, expected float32, bfloat16 or float16");
  if (gpu.capability < 80) return refuse("the GPU is sm_" + text(gpu.capability) + ", expected sm_80 or newer");
  if (gpu.divided) return refuse("the GPU is divided by MIG");
  if (s.resets) return refuse("there are resets");
  if (s.batch <= 0 || s.steps <= 0 || s.hidden <= 0) return refuse("there is nothing to compute: B, T or H is 0");
  if (s.hidden % kTile) return refuse("H is " + text(s.hidden) + ", expected a multiple of " + text(kTile));
  if (s.type == cuda::Type::kFloat && s.hidden > 512)
    return refuse("H is " + text(s.hidden) + ", expected 512 at most in float32");
  Plan plan;
  plan.slices = s.hidden / kTile, plan.directions = s.directions;
  int64_t at_once = plan.directions * plan.slices;
  if (at_once > gpu.multiprocessors)
    return refuse("H is " + text(s.hidden) + ", which takes " + text(at_once) + " blocks that run at once" +
                  (plan.directions > 1 ? ", of both directions" : "") + ", and the GPU has " +
                  text(gpu.multiprocessors) + " multiprocessors");
  if (s.steps > INT32_MAX / plan.slices / barriers)
    return refuse("T is " + text(s.steps) + ", which overflows the barrier");
  // As many groups as there is room for, then as few as do not make the largest larger.
  int64_t all = (s.batch + kTile - 1) / kTile, most = std::min(all, gpu.multiprocessors / at_once);
  plan.tiles = (all + most - 1) / most;
  plan.groups = (all + plan.tiles - 1) / plan.tiles;
  return plan;
}

Plan too_large(int64_t bytes, const Gpu& gpu) {
  return {"a block would hold " + std::to_string(bytes) + " bytes of weights and sums, and the GPU lets it have " +
          std::to_string(gpu.shared_bytes)};
}

Plan make(const Sequence& s, const Gpu& gpu) {
  Plan plan = divide(s, gpu, 1);
  if (!plan.refusal.empty()) return plan;
  const Chip& chip = chip_of(gpu);
  int64_t states = s.gates == 4 ? 2 : 1;
  plan.forward = launch(chip, plan, s.gates * kTile, s.hidden, states, size_of(s.type));
  plan.backward = launch(chip, plan, kTile, s.gates * s.hidden, states, size_of(s.type));
  int64_t shared = std::max(plan.forward.shared_bytes, plan.backward.shared_bytes);
  if (shared > gpu.shared_bytes) return too_large(shared, gpu);
  return plan;
}

bool measured_faster(const Sequence& s, const Gpu& gpu) {
  return std::any_of(kMeasured.begin(), kMeasured.end(), [&](const Row& row) {
    return row.capability == gpu.capability && row.gates == s.gates && row.directions == s.directions &&
           row.sixteen_bits == (s.type != cuda::Type::kFloat) && row.least_hidden <= s.hidden &&
           s.hidden <= row.most_hidden && row.least_batch <= s.batch && s.batch <= row.most_batch;
  });
}

}  // namespace s2s::plan
