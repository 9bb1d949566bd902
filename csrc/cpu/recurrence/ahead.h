// The input's part of the gates, made some steps ahead of the loop.
#pragma once

#include "../linear.h"
#include "rows.h"

namespace s2s::cpu::recurrence {

// So few rows in all do not pay for packing a weight.
constexpr int64_t kFewRows = 64;

inline bool few_rows(const Inputs& in) { return in.batch * in.steps <= kFewRows && !in.pairs(); }

// x W^T + b of a group's rows, some steps ahead: enough rows for a product to be worth its reading of the weight, and
// few enough for the second-level cache. Of all steps at once they would be 26 MB at (B, T, H) = (64, 50, 512), which
// the system maps and clears at every call.
template <class T>
class Ahead {
 public:
  Ahead(const Inputs& in, const Rows& rows, int64_t wide)
      : in_(in), rows_(rows), lying_(lies_in_pairs(in.x) && lies_in_pairs(in.weight_ih)), wide_(wide) {
    int64_t of_group = std::max<int64_t>(in.batch / std::max<int64_t>(groups_of(in.batch, num_threads()), 1), 1);
    steps = std::clamp<int64_t>(kRowsAhead / of_group, 1, std::max<int64_t>(in.steps, 1));
    gates_ = in.empty({in.batch * std::min(steps, in.steps), wide});
    if (in.steps <= steps && !few_rows(in)) {
      // All of them: one product packs the weight a block at a time, which is read once.
      hoist<T>(in.x, in.weight_ih, in.bias_ih, gates_.view({in.batch, in.steps, wide}), in.pairs());
      all_ = true;
      return;
    }
    x_ = lying_ ? in.x : to_compute(in.x);
    weight_ = Linear<T>(in.weight_ih, in.bias_ih, !few_rows(in), {}, in.pairs());
  }

  // Makes those of steps first..first + steps, in the columns that `apply` is called for.
  template <class Apply>
  void make(const Group& group, int64_t first, const Apply& apply) const {
    if (all_) return;
    if (lying_)
      multiply(group, first, bits<const Pair>(x_), pairs_of(in_.x.size(2)), apply);
    else
      multiply(group, first, static_cast<const T*>(data<T>(x_)), in_.x.size(2), apply);
  }

  // Those of row b at a time, which is number r of the rows that run in the steps made last.
  T* row(const Group& group, int64_t r, int64_t b, int64_t time) const {
    return data<T>(gates_) + (all_ ? b * in_.steps + time : group.offset * steps + r) * wide_;
  }

  int64_t steps;

 private:
  static constexpr int64_t kRowsAhead = 128;

  template <class E, class Apply>
  void multiply(const Group& group, int64_t first, const E* x, int64_t k, const Apply& apply) const {
    thread_local Buffer<E> buffer;
    int64_t stride = apart(k, sizeof(E)), count = 0;
    buffer.resize(std::max<size_t>(buffer.size(), group.rows.size() * steps * stride));
    for (int64_t step = first; step < std::min(first + steps, group.longest); step++)
      for (int64_t i = 0, running = group.running(step); i < running; i++, count++) {
        int64_t b = group.rows[i];
        std::copy_n(x + (b * in_.steps + rows_.time(b, step)) * k, k, buffer.data() + count * stride);
      }
    const E* rows = buffer.data();
    apply(weight_, count, rows, stride, data<T>(gates_) + group.offset * steps * wide_);
  }

  const Inputs& in_;
  const Rows& rows_;
  bool lying_, all_ = false;
  int64_t wide_;
  Tensor x_, gates_;
  Linear<T> weight_;
};

}  // namespace s2s::cpu::recurrence
