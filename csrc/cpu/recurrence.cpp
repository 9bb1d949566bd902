// Threads own rows of the batch through all steps; rows go in order of length, so that the rows still running are
// always the first ones. The input's part of the gates is made some steps ahead. Weight gradients are one product after
// the loop. Where a row is reset, what it begins the step from is copied in after the step before; its gradient is
// taken out after the product that makes it.
#include "recurrence.h"

#include <algorithm>
#include <numeric>

#include "cell.h"
#include "linear.h"
#include "single_step.h"

namespace s2s::cpu {

namespace {

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

// The states after all steps: as they are computed, where backward wants them so, and as they are shown.
template <class T>
class Output {
 public:
  Output(const Tensor& exact, const Tensor& shown)
      : exact_(data<T>(exact)),
        bfloat16_(shown.scalar_type() == at::kBFloat16 ? bits<BFloat16>(shown) : nullptr),
        float16_(shown.scalar_type() == at::kHalf ? bits<Float16>(shown) : nullptr) {}

  void write(int64_t at, const T* from, int64_t n) const {
    if (exact_) std::copy_n(from, n, exact_ + at);
    if (bfloat16_) kernels<T>().to_bfloat16(from, n, bfloat16_ + at);
    if (float16_) kernels<T>().to_float16(from, n, float16_ + at);
  }
  void clear(int64_t at, int64_t n) const {
    if (exact_) std::fill_n(exact_ + at, n, T(0));
    if (bfloat16_) std::fill_n(bfloat16_ + at, n, BFloat16{});
    if (float16_) std::fill_n(float16_ + at, n, Float16{});
  }

 private:
  T* exact_;
  BFloat16* bfloat16_;
  Float16* float16_;
};

// So few rows that a weight is read for in all are not worth packing it.
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
    gates_ = in.empty({in.batch * steps, wide});
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
    int64_t stride = share_sets(k * sizeof(E)) ? k + kLineBytes / sizeof(E) : k, count = 0;
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

// Whether a thread of the team can make the gates of its own part of the state: then it need not wait for the others
// before it computes that.
template <class T>
bool owns_gates(const Team& team, int64_t hidden) {
  return hidden % (team.size * kernels<T>().panel) == 0;
}

template <class T>
void forward(int64_t gates, const Inputs& in, const Rows& rows, const Tensor& saved, const Output<T>& output,
             const Tensor& h_n, const Tensor& c_n, const Tensor& cells, bool save) {
  int64_t hidden = in.hidden, steps = in.steps, wide = gates * hidden;
  const Ahead<T> ahead(in, rows, wide);
  const Linear<T> weight(in.weight_hh, in.bias_hh, !few_rows(in), {}, in.pairs());
  // The states before a step and those after it, in turn.
  Tensor h_buffer = rows_apart(in.h0, {2 * in.batch, hidden}), c_buffer = in.empty({in.batch, hidden});
  Tensor gates_buffer = in.empty({in.batch, wide});
  int64_t h_stride = h_buffer.stride(0);
  // h as the product reads it, rounded once, not by each of the threads that share it.
  bool round_h = in.pairs() && hidden % 2 == 0;
  Tensor rounded_h = round_h ? rows_apart(nothing(h_buffer).to(at::kBFloat16), {2 * in.batch, hidden}) : Tensor();
  CellKernels<T> cell(gates);
  bool has_cell = gates == kLstm, keep_cells = has_cell && (save || in.resets.defined());
  const threads::Stages stages{2.0 * in.batch * steps * (in.x.size(2) + hidden) * wide, 2.0 * steps};
  run_teams(in.batch, stages, [&](int64_t index, int64_t groups, const Team& team) {
    Group group(rows, index, groups);
    auto h_before = [&](int64_t step) { return data<T>(h_buffer) + (step % 2 * in.batch + group.offset) * h_stride; };
    T* c = data<T>(c_buffer) + group.offset * hidden;
    T* gates_h = data<T>(gates_buffer) + group.offset * wide;
    auto [begin, end] = team.part(hidden);
    int64_t rounded_stride = round_h ? rounded_h.stride(0) : 0, count = group.rows.size();
    auto rounded_before = [&](int64_t step) {
      return bits<BFloat16>(rounded_h) + (step % 2 * in.batch + group.offset) * rounded_stride;
    };
    // What row i begins step `step` from.
    auto begin_step = [&](int64_t i, int64_t step) {
      int64_t b = group.rows[i], at = b * steps + rows.time(b, step);
      T* h = h_before(step) + i * h_stride;
      if (step < rows.lengths[b] && in.reset(at)) {
        copy_or_zero(h + begin, in.reset_h, at * hidden + begin, end - begin);
        if (has_cell) copy_or_zero(c + i * hidden + begin, in.reset_c, at * hidden + begin, end - begin);
      }
      if (round_h) kernels<T>().to_bfloat16(h + begin, end - begin, rounded_before(step) + i * rounded_stride + begin);
    };
    for (int64_t i = 0; i < count; i++) {
      int64_t from = group.rows[i] * hidden + begin;
      std::copy_n(data<T>(in.h0) + from, end - begin, h_before(0) + i * h_stride + begin);
      if (has_cell) std::copy_n(data<T>(in.c0) + from, end - begin, c + i * hidden + begin);
      begin_step(i, 0);
    }
    bool own = owns_gates<T>(team, hidden);
    auto multiply = [&](const Linear<T>& by, int64_t m, const auto* a, int64_t lda, T* to) {
      auto columns = [&](int64_t first, int64_t last) {
        if constexpr (std::is_same_v<decltype(a), const Pair*>)
          by.columns(first, last, m, a, lda, to + first, wide);
        else
          by.columns(first, last, by.read(m, a, lda), to + first, wide);
      };
      if (!own) return std::apply(columns, by.part(team));
      for (int64_t gate = 0; gate < wide; gate += hidden) columns(gate + begin, gate + end);
    };
    team.sync();
    for (int64_t step = 0, made = 0; step < group.longest; step++) {
      int64_t running = group.running(step);
      if (step % ahead.steps == 0) ahead.make(group, step, multiply), made = 0;
      if (round_h)
        multiply(weight, running, reinterpret_cast<const Pair*>(rounded_before(step)), rounded_stride / 2, gates_h);
      else
        multiply(weight, running, static_cast<const T*>(h_before(step)), h_stride, gates_h);
      if (!own) team.sync();
      for (int64_t i = 0; i < running; i++, made++) {
        int64_t b = group.rows[i], time = rows.time(b, step), at = b * steps + time;
        const T* h = h_before(step) + i * h_stride;
        T *h_after = h_before(step + 1) + i * h_stride, *c_row = c + i * hidden;
        cell.forward(ahead.row(group, made, b, time), gates_h + i * wide, h, c_row, h_after, c_row,
                     save ? data<T>(saved) + at * 4 * hidden : nullptr, hidden, begin, end);
        output.write(at * hidden + begin, h_after + begin, end - begin);
        if (keep_cells) std::copy_n(c_row + begin, end - begin, data<T>(cells) + at * hidden + begin);
        begin_step(i, step + 1);
      }
      team.sync();
    }
    for (int64_t i = 0; i < count; i++) {
      int64_t b = group.rows[i], to = b * hidden + begin;
      std::copy_n(h_before(rows.lengths[b]) + i * h_stride + begin, end - begin, data<T>(h_n) + to);
      if (has_cell) std::copy_n(c + i * hidden + begin, end - begin, data<T>(c_n) + to);
      for (int64_t t = rows.lengths[b]; t < steps; t++) {
        int64_t at = b * steps + t;
        output.clear(at * hidden + begin, end - begin);
        if (keep_cells) std::fill_n(data<T>(cells) + at * hidden + begin, end - begin, T(0));
        for (int64_t gate = 0; gate < 4 && save; gate++)
          std::fill_n(data<T>(saved) + (at * 4 + gate) * hidden + begin, end - begin, T(0));
      }
    }
  });
}

// Fills grad_gates (B * T, 4H), rows apart, zero past a row's length, and grad_h, grad_c (B, H), the initial state's;
// of grad_reset_h and grad_reset_c, where they are wanted, the steps that have a reset.
template <class T>
void backward(int64_t gates, const Inputs& in, const Rows& rows, const Tensor& grad_output, const Tensor& grad_h_n,
              const Tensor& grad_c_n, const Tensor& grad_cells, const Tensor& saved, const Tensor& output,
              const Tensor& cells, const Buffer<T>& zeros, const Tensor& grad_gates, const Tensor& grad_h0,
              const Tensor& grad_c0, const Tensor& grad_reset_h, const Tensor& grad_reset_c) {
  int64_t hidden = in.hidden, steps = in.steps, wide = gates * hidden;
  auto weight = Packed<T>::straight(in.weight_hh, in.pairs());
  Tensor h_buffer = in.empty({in.batch, hidden}), c_buffer = in.empty({in.batch, hidden});
  // Those of a step while others may still read those of the step after it.
  Tensor gates_buffer = rows_apart(in.x, {2 * in.batch, wide});
  int64_t gates_stride = gates_buffer.stride(0), grad_stride = grad_gates.stride(0);
  CellKernels<T> cell(gates);
  bool has_cell = gates == kLstm;
  const threads::Stages stages{2.0 * in.batch * steps * hidden * wide, 2.0 * steps};
  run_teams(in.batch, stages, [&](int64_t index, int64_t groups, const Team& team) {
    Group group(rows, index, groups);
    T *grad_h = data<T>(h_buffer) + group.offset * hidden, *grad_c = data<T>(c_buffer) + group.offset * hidden;
    auto [begin, end] = team.part(hidden);
    bool own = owns_gates<T>(team, hidden);
    int64_t count = group.rows.size();
    auto take = [&](T* grad, const Tensor& to, int64_t at) {
      if (to.defined()) std::copy_n(grad + begin, end - begin, data<T>(to) + at * hidden + begin);
      std::fill_n(grad + begin, end - begin, T(0));
    };
    for (int64_t i = 0; i < count; i++) {
      int64_t b = group.rows[i];
      copy_or_zero(grad_h + i * hidden + begin, grad_h_n, b * hidden + begin, end - begin);
      if (has_cell) copy_or_zero(grad_c + i * hidden + begin, grad_c_n, b * hidden + begin, end - begin);
      for (int64_t t = rows.lengths[b]; t < steps; t++)
        for (int64_t gate = 0; gate < 4; gate++)
          std::fill_n(data<T>(grad_gates) + (b * steps + t) * grad_stride + gate * hidden + begin, end - begin, T(0));
    }
    for (int64_t step = group.longest - 1; step >= 0; step--) {
      int64_t running = group.running(step);
      T* grad_gates_h = data<T>(gates_buffer) + (step % 2 * in.batch + group.offset) * gates_stride;
      for (int64_t i = 0; i < running; i++) {
        int64_t b = group.rows[i], at = b * steps + rows.time(b, step), before = rows.previous(b, step);
        auto state = [&](const Tensor& all, const Tensor& first, const Tensor& reset) -> const T* {
          if (in.reset(at)) return reset.defined() ? data<T>(reset) + at * hidden : zeros.data();
          return before < 0 ? data<T>(first) + b * hidden : data<T>(all) + (b * steps + before) * hidden;
        };
        T *h_row = grad_h + i * hidden, *c_row = grad_c + i * hidden;
        if (grad_output.defined())
          kernels<T>().add(h_row + begin, data<T>(grad_output) + at * hidden + begin, end - begin);
        if (grad_cells.defined())
          kernels<T>().add(c_row + begin, data<T>(grad_cells) + at * hidden + begin, end - begin);
        cell.backward(data<T>(saved) + at * 4 * hidden, state(output, in.h0, in.reset_h),
                      has_cell ? state(cells, in.c0, in.reset_c) : nullptr,
                      has_cell ? data<T>(cells) + at * hidden : nullptr, h_row, c_row,
                      data<T>(grad_gates) + at * grad_stride, grad_gates_h + i * gates_stride, hidden, begin, end);
      }
      team.sync();
      weight.apply(team, running, grad_gates_h, gates_stride, grad_h, hidden, nullptr, true);
      if (!own) team.sync();
      for (int64_t i = 0; i < running && in.resets.defined(); i++) {
        int64_t b = group.rows[i], at = b * steps + rows.time(b, step);
        if (!in.reset(at)) continue;
        take(grad_h + i * hidden, grad_reset_h, at);
        if (has_cell) take(grad_c + i * hidden, grad_reset_c, at);
      }
    }
    for (int64_t i = 0; i < count; i++) {
      int64_t to = group.rows[i] * hidden + begin;
      std::copy(grad_h + i * hidden + begin, grad_h + i * hidden + end, data<T>(grad_h0) + to);
      if (has_cell) std::copy(grad_c + i * hidden + begin, grad_c + i * hidden + end, data<T>(grad_c0) + to);
    }
  });
}

// Rows (B * T) that the steps of the loop read, for the gradient of a weight: row(b, step) at the time of that step.
// Past a row's length zeros stand for what may be NaN.
template <class T, class Row>
RowPointers<T> rows_read(const Inputs& in, const Rows& rows, const Buffer<T>& zeros, const Row& row) {
  RowPointers<T> all(in.batch * in.steps, zeros.data());
  for (int64_t b = 0; b < in.batch; b++)
    for (int64_t step = 0; step < rows.lengths[b]; step++) all[b * in.steps + rows.time(b, step)] = row(b, step);
  return all;
}

}  // namespace

Tensors recurrence_forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, bool reverse,
                           bool save) {
  Inputs in(gates, inputs, lengths, to_multiply);
  Rows rows(lengths, in.batch, in.steps, reverse);
  bool has_cell = gates == kLstm;
  // Backward reads what the loop computed, not its rounding to 16 bits.
  bool single = is_single_step(in, lengths);
  Tensor saved = save || single ? in.empty({in.batch, in.steps, 4 * in.hidden}) : nothing(in.h0);
  Tensor exact = save || single || !in.rounded() ? in.empty({in.batch, in.steps, in.hidden}) : nothing(in.h0);
  Tensor output = in.rounded() ? at::empty({in.batch, in.steps, in.hidden}, in.h0.options().dtype(in.type)) : exact;
  Tensor h_n = in.empty({in.batch, in.hidden}), c_n = in.empty({in.batch, in.hidden});
  bool show_cells = has_cell && in.resets.defined();
  Tensor cells = has_cell && (save || show_cells) ? in.empty({in.batch, in.steps, in.hidden}) : nothing(in.h0);
  if (single) {
    single_step_forward(gates, in, saved, exact, h_n, c_n, cells, save);
    output = converted(exact, in.type);
  } else {
    dispatch(in.h0, [&](auto zero) {
      using T = decltype(zero);
      forward<T>(gates, in, rows, saved, {exact, output}, h_n, c_n, cells, save);
    });
  }
  if (!save) saved = nothing(in.h0);
  if (!save || !in.rounded()) exact = nothing(in.h0);
  if (show_cells) {
    Tensor exact_cells = save && in.rounded() ? cells : nothing(in.h0);
    return {output,     converted(h_n, in.type), converted(c_n, in.type), converted(cells, in.type), saved, exact,
            exact_cells};
  }
  if (has_cell) return {output, converted(h_n, in.type), converted(c_n, in.type), saved, exact, cells};
  return {output, converted(h_n, in.type), saved, exact};
}

Tensors recurrence_backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                            const OptionalTensor& lengths, bool reverse, at::TensorList outputs,
                            const c10::List<bool>& needs) {
  Inputs in(gates, inputs, lengths);
  in.check_backward(grads, outputs, needs);
  Rows rows(lengths, in.batch, in.steps, reverse);
  bool has_cell = gates == kLstm;
  Tensor grad_output = to_compute(grads.get(0)), grad_h_n = to_compute(grads.get(1));
  Tensor grad_c_n = has_cell ? to_compute(grads.get(2)) : Tensor();
  Tensor grad_cells = in.shown() > 3 ? to_compute(grads.get(3)) : Tensor();
  Tensor saved = in.saved_gates(outputs), output = in.exact_output(outputs), cells = in.exact_cells(outputs);
  Tensor grad_gates = rows_apart(in.x, {in.batch * in.steps, 4 * in.hidden});
  Tensor grad_h0 = in.empty({in.batch, in.hidden}), grad_c0 = in.empty({in.batch, in.hidden});
  // The order of the inputs, c0 apart.
  enum { kX, kH0, kWeightIh, kWeightHh, kBiasIh, kBiasHh };
  auto needed = [&](int which) { return needs.get(which + (which > kH0 && has_cell)); };
  auto empty = [&](int which, const Tensor& like) { return needed(which) ? in.empty(like.sizes()) : Tensor(); };
  auto zeros = [&](const Tensor& like, size_t which) {
    return like.defined() && needs.get(which) ? s2s::cpu::zeros(like.sizes(), like.options()) : Tensor();
  };
  Tensor grad_reset_h = zeros(in.reset_h, has_cell ? 8 : 7), grad_reset_c = zeros(in.reset_c, 9);
  Tensor grad_x = empty(kX, in.x);
  Tensor grad_weight_ih = empty(kWeightIh, in.weight_ih), grad_weight_hh = empty(kWeightHh, in.weight_hh);
  auto run = [&](auto zero) {
    using T = decltype(zero);
    int64_t hidden = in.hidden, inputs = in.x.size(2);
    Buffer<T> padding(std::max(hidden, inputs));
    backward<T>(gates, in, rows, grad_output, grad_h_n, grad_c_n, grad_cells, saved, output, cells, padding, grad_gates,
                grad_h0, grad_c0, grad_reset_h, grad_reset_c);
    auto all = RowBlocks<const T>::of(grad_gates);
    if (grad_x.defined()) product(all, in.weight_ih, RowBlocks<T>::of(grad_x), in.pairs());
    if (grad_weight_ih.defined())
      outer_products(all,
                     rows_read<T>(in, rows, padding,
                                  [&](int64_t b, int64_t step) {
                                    return data<T>(in.x) + (b * in.steps + rows.time(b, step)) * inputs;
                                  }),
                     grad_weight_ih, in.pairs(), false);
    if (grad_weight_hh.defined())
      weight_hh_gradient(
          gates, all,
          rows_read<T>(in, rows, padding,
                       [&](int64_t b, int64_t step) -> const T* {
                         int64_t at = b * in.steps + rows.time(b, step);
                         if (in.reset(at))
                           return in.reset_h.defined() ? data<T>(in.reset_h) + at * hidden : padding.data();
                         return step == 0 ? data<T>(in.h0) + b * hidden
                                          : data<T>(output) + (b * in.steps + rows.time(b, step - 1)) * hidden;
                       }),
          grad_weight_hh, in.pairs(), false);
  };
  if (is_single_step(in, lengths))
    single_step_backward(gates, in, grad_output, grad_h_n, grad_c_n, saved, cells, grad_gates,
                         {grad_x, grad_h0, grad_c0, grad_weight_ih, grad_weight_hh});
  else
    dispatch(in.x, run);
  bool bias = needed(kBiasIh) || needed(kBiasHh);
  auto [grad_bias_ih, grad_bias_hh] = bias_gradients(gates, bias ? column_sums(grad_gates) : Tensor());

  Tensors result;
  auto give = [&](const Tensor& grad) {
    bool need = needs.get(result.size()) && grad.defined();
    result.push_back(converted(need ? grad : nothing(in.x), in.type));
  };
  give(grad_x);
  give(grad_h0);
  if (has_cell) give(grad_c0);
  for (const Tensor& grad : {grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh}) give(grad);
  if (in.resets.defined()) {
    give(Tensor());
    give(grad_reset_h);
    if (has_cell) give(grad_reset_c);
  }
  return result;
}

}  // namespace s2s::cpu
