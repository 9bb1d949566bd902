// Threads own rows of the batch through all steps; rows go in order of length, so that the rows still running are
// always the first ones. The input's part of the gates is made some steps ahead. Where a row is reset, what it begins
// the step from is copied in after the step before.
#include "../single_step.h"
#include "ahead.h"

namespace s2s::cpu {

namespace recurrence {

namespace {

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
  const double work = 2.0 * in.batch * steps * (in.x.size(2) + hidden) * wide;
  run_teams(in.batch, work, [&](int64_t index, int64_t groups, const Team& team) {
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

}  // namespace

}  // namespace recurrence

Tensors recurrence_forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, bool reverse,
                           bool save) {
  recurrence::Inputs in(gates, inputs, lengths, to_multiply);
  recurrence::Rows rows(lengths, in.batch, in.steps, reverse);
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
      recurrence::forward<T>(gates, in, rows, saved, {exact, output}, h_n, c_n, cells, save);
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

}  // namespace s2s::cpu
