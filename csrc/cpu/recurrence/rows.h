// What the two passes of a recurrence share: its arguments, and which rows of the batch a group of threads owns.
#pragma once

#include <algorithm>
#include <numeric>

#include "../cell.h"
#include "../recurrence.h"

namespace s2s::cpu::recurrence {

struct Inputs : RecurrenceArguments {
  Inputs(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths, Prepare prepare_matrix = to_compute)
      : RecurrenceArguments(gates, list, lengths, to_compute, prepare_matrix) {}

  bool pairs() const { return in_pairs(type); }
  // Whether there is a reset before time `at` of (B * T).
  bool reset(int64_t at) const { return resets.defined() && resets.const_data_ptr<bool>()[at]; }
};

// Rows of the batch in order of length, longest first, and dealt to groups in turn.
struct Rows {
  std::vector<int64_t> lengths, order;
  bool reverse;

  Rows(const OptionalTensor& given_lengths, int64_t batch, int64_t steps, bool reversed) : reverse(reversed) {
    lengths.assign(batch, steps);
    order.resize(batch);
    std::iota(order.begin(), order.end(), 0);
    if (!given(given_lengths)) return;
    Tensor values = given_lengths->to(at::kLong).contiguous();
    std::copy_n(values.const_data_ptr<int64_t>(), batch, lengths.begin());
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
  }

  // The time that step `step` of row b reads, and the one before it; -1: the initial state.
  int64_t time(int64_t b, int64_t step) const { return reverse ? lengths[b] - 1 - step : step; }
  int64_t previous(int64_t b, int64_t step) const { return step == 0 ? -1 : time(b, step - 1); }
};

// One group's rows, with buffers in the group's own order.
struct Group {
  std::vector<int64_t> rows;
  int64_t offset = 0;  // of the group's first row in the shared buffers
  int64_t longest = 0;
  const Rows& all;

  Group(const Rows& rows_, int64_t group, int64_t groups) : all(rows_) {
    int64_t batch = all.order.size();
    for (int64_t i = group; i < batch; i += groups) rows.push_back(all.order[i]);
    for (int64_t g = 0; g < group; g++) offset += (batch - g + groups - 1) / groups;
    longest = rows.empty() ? 0 : all.lengths[rows[0]];
  }

  int64_t running(int64_t step) const {
    int64_t n = 0;
    while (n < static_cast<int64_t>(rows.size()) && all.lengths[rows[n]] > step) n++;
    return n;
  }
};

// Whether a thread of the team can make the gates of its own part of the state: then it need not wait for the others
// before it computes that.
template <class T>
bool owns_gates(const Team& team, int64_t hidden) {
  return hidden % (team.size * kernels<T>().panel) == 0;
}

}  // namespace s2s::cpu::recurrence
