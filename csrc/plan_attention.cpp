#include "plan_attention.h"

#include "plan_chips.h"

namespace s2s::plan {

namespace {

// Bytes a cycle of what all blocks read from the L2 cache at once; tanh a cycle, as one instruction and as many.
constexpr double kStreamed = 24, kFastTanh = 16, kTanh = 4;

// A plan in the making: of one launch, whose shared memory fills up.
struct Builder {
  const Decoder& s;
  const Gpu& gpu;
  const DecoderPlan& plan;
  int64_t size = size_of(s.type);
  int64_t rows = plan.tiles * kTile, items = (std::min(rows, s.batch) * plan.parts + plan.slices - 1) / plan.slices;
  int64_t columns = (s.attention / kTile + plan.parts - 1) / plan.parts * kTile;  // of a part of the keys, at most
  DecoderLaunch made = {};

  int64_t take(int64_t bytes) {
    int64_t at = made.shared_bytes;
    made.shared_bytes += bytes;
    return at;
  }
  int64_t take_if_it_fits(int64_t bytes) { return made.shared_bytes + bytes > gpu.shared_bytes ? -1 : take(bytes); }
  int64_t exchange(int64_t bytes_of_a_group) {
    int64_t at = made.exchange_bytes;
    made.exchange_bytes += plan.groups * bytes_of_a_group;
    return at;
  }
  // What is read at every step stays in shared memory where there is room: the values first, which are more.
  void source() {
    made.values_at = take_if_it_fits(rows * plan.span * s.gates * kTile * size);
    made.keys_at = take_if_it_fits(items * s.source * columns * size);
  }
  // tanh of each of its items' elements, on keys that come meanwhile.
  double score_cycles() const {
    double elements = static_cast<double>(items * s.source * columns);
    double tanh = elements / (s.type == cuda::Type::kBFloat16 ? kFastTanh : kTanh);
    return std::max(tanh, elements * size / (made.keys_at < 0 ? kStreamed : kShared));
  }
  // Of a tile: two instructions an element, on values that come meanwhile.
  double value_cycles() const {
    double elements = static_cast<double>(kTile * plan.span * s.gates * kTile);
    return std::max(2 * elements / 128, elements * size / (made.values_at < 0 ? kStreamed : kShared));
  }
};

DecoderLaunch forward(const Decoder& s, const Gpu& gpu, const DecoderPlan& plan) {
  Builder b{s, gpu, plan};
  const Chip& chip = chip_of(gpu);
  int64_t wide = (s.gates + 1) * kTile, states = s.gates == 4 ? 2 : 1;  // the last columns are the query's
  b.take(wide * s.hidden * b.size);
  int64_t sums = 4 * (kWarps / 2) * kTile * wide, sums_at = b.take(sums), weights = 4 * kTile * plan.span;
  b.take(4 * (states + s.gates) * plan.tiles * kThreads);
  b.made.weights_at = weights <= sums ? sums_at : b.take(weights);  // the sums have been read by then
  b.source();
  int64_t operand = b.rows * s.hidden * b.size, scores = 4 * plan.parts * b.rows * plan.span;
  b.exchange(2 * operand);
  b.made.second_at = b.exchange(b.rows * s.attention * b.size);
  b.made.third_at = b.exchange(scores);
  b.made.read_bytes = operand + b.items * b.columns * b.size + scores;
  b.made.barriers = 3;
  double cycles = b.score_cycles() + scores / kOthers +
                  plan.tiles * (product_cycles(chip, wide, s.hidden, b.size) + b.value_cycles());
  b.made.step_us = 3 * kBarrier + kOperand + plan.tiles * 2 * (kOperand + kSums) + microseconds(chip, cycles);
  return b.made;
}

DecoderLaunch backward(const Decoder& s, const Gpu& gpu, const DecoderPlan& plan) {
  Builder b{s, gpu, plan};
  const Chip& chip = chip_of(gpu);
  int64_t deep = s.gates * s.hidden, states = s.gates == 4 ? 2 : 1;
  b.take(kTile * deep * b.size + 4 * (kWarps * kTile * kTile + states * plan.tiles * kThreads));
  b.made.w_query_at = b.take(kTile * s.attention * b.size);
  int64_t attending = plan.span + std::max(kWarps * plan.span, (kWarps + 2) * b.columns);
  b.made.weights_at = b.take(4 * std::max(attending, kTile * s.gates * kTile));
  b.source();
  int64_t operand = b.rows * deep * b.size, queries = b.rows * s.attention * b.size;
  int64_t parts = 4 * plan.slices * plan.span;  // of a row
  b.exchange(2 * operand);
  b.made.second_at = b.exchange(queries);
  b.made.third_at = b.exchange(b.rows * parts);
  b.made.read_bytes = operand + queries + b.items * parts;
  b.made.barriers = 2;
  double attend = kOperand + 2 * kSums + microseconds(chip, b.score_cycles() + b.items * parts / kOthers);
  double values = microseconds(chip, b.value_cycles());
  auto product = [&](int64_t depth) {
    return plan.tiles * (kOperand + kSums + microseconds(chip, product_cycles(chip, kTile, depth, b.size)));
  };
  // The gates' product is made while the others still attend, behind the second barrier.
  b.made.step_us = kBarrier + plan.tiles * values + attend + std::max(kBarrier, product(deep)) + product(s.attention);
  return b.made;
}

}  // namespace

DecoderPlan make(const Decoder& s, const Gpu& gpu) {
  auto refuse = [](const std::string& why) { return DecoderPlan{why}; };
  auto text = [](int64_t number) { return std::to_string(number); };
  if (s.heads != 1) return refuse("there are " + text(s.heads) + " heads, expected 1");
  if (s.has_feed) return refuse("w_feed is given");
  Plan divided = divide(s, gpu, 3);
  if (!divided.refusal.empty()) return refuse(divided.refusal);
  if (s.source <= 0) return refuse("there is nothing to attend to: S is 0");
  if (s.attention <= 0 || s.attention % kTile)
    return refuse("A is " + text(s.attention) + ", expected a multiple of " + text(kTile));
  if (s.attention > s.hidden)
    return refuse("A is " + text(s.attention) + ", expected H, which is " + text(s.hidden) + ", at most");
  DecoderPlan plan{"", divided.groups, divided.slices, divided.tiles};
  int64_t pack = 16 / size_of(s.type), packs = (s.source + pack - 1) / pack;
  plan.span = (packs + 1 - packs % 2) * pack;
  plan.parts = std::clamp(plan.slices / std::min(plan.tiles * kTile, s.batch), int64_t{1}, s.attention / kTile);
  plan.forward = forward(s, gpu, plan);
  plan.backward = backward(s, gpu, plan);
  int64_t shared = std::max(plan.forward.shared_bytes, plan.backward.shared_bytes);
  if (shared > gpu.shared_bytes) return refuse(too_large(shared, gpu).refusal);
  return plan;
}

bool measured_faster(const Decoder&, const Gpu&) { return false; }

}  // namespace s2s::plan
