// From the last step to the first, rows dealt as forward deals them. Weight gradients are one product after the loop.
// The gradient of what a row is reset to is taken out after the product that makes it.
#include "../single_step.h"
#include "rows.h"

namespace s2s::cpu {

namespace recurrence {

namespace {

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
  const double work = 2.0 * in.batch * steps * hidden * wide;
  run_teams(in.batch, work, [&](int64_t index, int64_t groups, const Team& team) {
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

}  // namespace recurrence

Tensors recurrence_backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                            const OptionalTensor& lengths, bool reverse, at::TensorList outputs,
                            const c10::List<bool>& needs) {
  recurrence::Inputs in(gates, inputs, lengths);
  in.check_backward(grads, outputs, needs);
  recurrence::Rows rows(lengths, in.batch, in.steps, reverse);
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
    recurrence::backward<T>(gates, in, rows, grad_output, grad_h_n, grad_c_n, grad_cells, saved, output, cells, padding,
                            grad_gates, grad_h0, grad_c0, grad_reset_h, grad_reset_c);
    auto all = RowBlocks<const T>::of(grad_gates);
    if (grad_x.defined()) product(all, in.weight_ih, RowBlocks<T>::of(grad_x), in.pairs());
    if (grad_weight_ih.defined())
      outer_products(all,
                     recurrence::rows_read<T>(in, rows, padding,
                                              [&](int64_t b, int64_t step) {
                                                return data<T>(in.x) + (b * in.steps + rows.time(b, step)) * inputs;
                                              }),
                     grad_weight_ih, in.pairs(), false);
    if (grad_weight_hh.defined())
      weight_hh_gradient(gates, all,
                         recurrence::rows_read<T>(
                             in, rows, padding,
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
