// gru and lstm on a GPU: the input's part of the gates is one product over all steps; then, with no synchronisation
// and no allocation in the loop, one product and one kernel a step, or one launch for all steps (persistent.cuh).
// Weight gradients are one product after the loop.
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ge.h>
#include <ATen/ops/gt.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/masked_fill.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "../bidirectional.h"
#include "cell.cuh"
#include "glue.h"
#include "ops.h"
#include "persistent_host.h"

namespace s2s::cuda {

namespace {

struct Inputs : RecurrenceArguments {
  Tensor lengths;

  Inputs(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths_)
      : RecurrenceArguments(gates, list, lengths_, contiguous), lengths(to_int64(lengths_)) {}

  Tensor accumulate(at::IntArrayRef shape) const { return at::empty(shape, x.options().dtype(accumulate_type(type))); }

  // x with zeros past each row's length: what stands there, NaN included, must not reach a weight's gradient, nor a
  // product in which a library lets one row reach another (as PyTorch's own of bfloat16 on a CPU does).
  Tensor valid_part() const { return valid_part(x); }
  Tensor valid_part(const Tensor& all) const {
    if (!lengths.defined()) return all;
    Tensor past = at::ge(at::arange(steps, lengths.options()).unsqueeze(0), lengths.unsqueeze(1));
    return at::masked_fill(all, past.unsqueeze(2), 0);
  }

  Resets reset_data() const { return {bool_data(resets), data(reset_h), data(reset_c)}; }
  // Rows (B, 1) that are reset before step t.
  Tensor reset_rows(int64_t t) const {
    Tensor rows = resets.narrow(1, t, 1);
    return lengths.defined() ? at::logical_and(rows, at::gt(lengths, t).unsqueeze(1)) : rows;
  }
  // What stands before step t in place of a state (B, H), in its dtype.
  static Tensor reset_to(const Tensor& rows, const Tensor& all, int64_t t, const Tensor& state) {
    Tensor begin = all.defined() ? all.select(1, t).to(state.scalar_type()) : at::zeros_like(state);
    return at::where(rows, begin, state);
  }
};

// A direction forward: what is made before the loop, the loop, and what is returned.
struct Forward {
  const Inputs in;
  int64_t gates;
  bool reverse, save, has_cell = gates == kLstm, show_cells = has_cell && in.resets.defined();
  Tensor gates_x, gates_h, output, saved, exact, cells, h, c, rounded_h;
  CellForward a{in.batch, in.hidden, in.steps};

  Forward(int64_t gates_, const Inputs& in_, bool reverse_, bool save_)
      : in(in_), gates(gates_), reverse(reverse_), save(save_) {
    int64_t steps = in.steps, hidden = in.hidden, wide = gates * hidden;
    gates_x = product(rows(in.valid_part()), in.weight_ih.t(), in.bias_ih);
    gates_h = in.empty({in.batch, wide}), output = in.empty({in.batch, steps, hidden});
    saved = save ? in.accumulate({in.batch, steps, 4 * hidden}) : in.accumulate({0});
    exact = save && in.rounded() ? in.accumulate(output.sizes()) : in.accumulate({0});
    cells = has_cell && (save || show_cells) ? in.accumulate(output.sizes()) : in.accumulate({0});
    h = accumulator(in.h0), c = has_cell ? accumulator(in.c0) : Tensor();
    if (in.resets.defined() && steps > 0) {
      int64_t first = reverse ? steps - 1 : 0;
      Tensor rows = in.reset_rows(first);
      h = in.reset_to(rows, in.reset_h, first, h);
      if (has_cell) c = in.reset_to(rows, in.reset_c, first, c);
    }
    rounded_h = in.rounded() ? h.to(in.type) : h;
    a.resets = in.reset_data();
    a.lengths = int64_data(in.lengths);
    a.gates_x = data(gates_x), a.gates_x_strides = {steps * wide, wide};
    a.gates_h = data(gates_h), a.gates_h_strides = {wide, 0};
    a.h = data(h), a.c = data(c), a.rounded_h = in.rounded() ? data(rounded_h) : nullptr;
    a.output = data(output), a.output_strides = {steps * hidden, hidden}, a.exact_output = data(exact),
    a.saved = data(saved), a.cells = data(cells);
  }

  PersistentForward::Direction persistent() const { return {a, reverse, data(in.weight_hh), data(in.bias_hh)}; }

  void loop() {
    auto type = type_of(in.x);
    auto stream = current_stream(in.x);
    for (int64_t step = 0; step < in.steps; step++) {
      product_out(gates_h, rounded_h, in.weight_hh.t(), in.bias_hh);
      a.t = reverse ? in.steps - 1 - step : step;
      a.resets.other = reverse ? a.t - 1 : a.t + 1;
      cell_forward(gates, a, type, stream);
    }
  }

  Tensors results() {
    Tensors result = {output, h.to(in.type)};
    if (has_cell) result.push_back(c.to(in.type));
    if (show_cells) {
      result.push_back(in.valid_part(cells).to(in.type));
      if (!save || !in.rounded()) cells = in.accumulate({0});
    }
    result.insert(result.end(), {saved, exact});
    if (has_cell) result.push_back(cells);
    return result;
  }
};

Tensors forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, bool reverse, bool save) {
  c10::DeviceGuard guard(device_of(inputs));
  Forward one(gates, Inputs(gates, inputs, lengths), reverse, save);
  if (auto launch = persistent_launch(gates, one.in, 1, true))
    persistent_forward(gates, {launch->division, {one.persistent()}}, type_of(one.in.x), current_stream(one.in.x));
  else
    one.loop();
  return one.results();
}

Tensors forward_both(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, bool save) {
  BothDirections both(gates);
  auto split = both.inputs(inputs);
  c10::DeviceGuard guard(device_of(inputs));
  Inputs in(gates, split[0], lengths);
  auto launch = persistent_launch(gates, in, 2, true);
  if (!launch)
    return both.forward(
        {forward(gates, split[0], lengths, false, save), forward(gates, split[1], lengths, true, save)});
  Forward first(gates, in, false, save), second(gates, Inputs(gates, split[1], lengths), true, save);
  PersistentForward p{launch->division, {first.persistent(), second.persistent()}};
  persistent_forward(gates, p, type_of(in.x), current_stream(in.x));
  return both.forward({first.results(), second.results()});
}

// The same backward.
struct Backward {
  const Inputs in;
  int64_t gates;
  bool reverse, has_cell = gates == kLstm;
  const c10::List<bool> needs;
  Tensor saved, cells, output, grad_output, grad_h, grad_c, grad_gates_h, grad_gates_x, h_before, from_product,
      grad_cells, grad_reset_h, grad_reset_c;
  CellBackward a{in.batch, in.hidden, in.steps};

  Backward(int64_t gates_, const Inputs& in_, const OptionalTensors& grads, bool reverse_, at::TensorList outputs,
           const c10::List<bool>& needs_)
      : in(in_), gates(gates_), reverse(reverse_), needs(needs_) {
    in.check_backward(grads, outputs, needs);
    int64_t steps = in.steps, hidden = in.hidden, wide = gates * hidden;
    saved = in.saved_gates(outputs), cells = in.exact_cells(outputs), output = in.exact_output(outputs);
    grad_output = contiguous(grads.get(0)), grad_h = begin_as(grads.get(1), in.accumulate({in.batch, hidden}));
    grad_c = has_cell ? begin_as(grads.get(2), in.accumulate({in.batch, hidden})) : Tensor();
    grad_gates_h = in.empty({in.batch, steps, wide});
    grad_gates_x = has_cell ? grad_gates_h : in.empty({in.batch, steps, wide});
    h_before = in.empty({in.batch, steps, hidden});
    from_product = at::zeros({in.batch, hidden}, in.x.options());
    a.reverse = reverse, a.lengths = int64_data(in.lengths);
    a.saved = data(saved), a.cells = data(cells), a.output = data(output);
    a.h0 = data(in.h0), a.c0 = data(in.c0);
    a.grad_output = data(grad_output), a.from_product = data(from_product);
    a.grad_h = data(grad_h), a.grad_c = data(grad_c);
    a.grad_gates_x = has_cell ? nullptr : data(grad_gates_x), a.grad_gates_h = data(grad_gates_h);
    a.grad_gates_x_strides = a.grad_gates_h_strides = {steps * wide, wide};
    a.h_before = data(h_before);
    grad_cells = in.shown() > 3 ? contiguous(grads.get(3)) : Tensor();
    auto zeros = [&](const Tensor& like, size_t which) {
      return like.defined() && needs.get(which) ? at::zeros_like(like) : Tensor();
    };
    grad_reset_h = zeros(in.reset_h, has_cell ? 8 : 7), grad_reset_c = zeros(in.reset_c, 9);
    a.resets = in.reset_data();
    a.grad_cells = data(grad_cells), a.grad_reset_h = data(grad_reset_h), a.grad_reset_c = data(grad_reset_c);
  }

  PersistentBackward::Direction persistent() const { return {a, data(in.weight_hh)}; }

  void loop() {
    auto type = type_of(in.x);
    auto stream = current_stream(in.x);
    for (int64_t step = 0; step < in.steps; step++) {
      a.t = reverse ? step : in.steps - 1 - step;
      a.resets.other = reverse ? a.t - 1 : a.t + 1;
      cell_backward(gates, a, type, stream);
      product_out(from_product, grad_gates_h.select(1, a.t), in.weight_hh);
    }
    grad_h = at::add(grad_h, from_product);
  }

  Tensors results() {
    if (in.resets.defined() && in.steps > 0) {  // before the first step, which no kernel came after
      int64_t first = reverse ? in.steps - 1 : 0;
      Tensor rows = in.reset_rows(first);
      auto take = [&](Tensor& grad, const Tensor& to) {
        if (to.defined()) to.select(1, first).copy_(at::masked_fill(grad, at::logical_not(rows), 0));
        grad = at::masked_fill(grad, rows, 0);
      };
      take(grad_h, grad_reset_h);
      if (has_cell) take(grad_c, grad_reset_c);
    }

    Tensors result;
    size_t i = 0;
    auto give = [&](auto make) { result.push_back(needs.get(i++) ? make().to(in.type) : nothing(in.x)); };
    give([&] { return product(rows(grad_gates_x), in.weight_ih).view(in.x.sizes()); });
    give([&] { return grad_h; });
    if (has_cell) give([&] { return grad_c; });
    give([&] { return outer_products(rows(grad_gates_x), rows(in.valid_part())); });
    give([&] { return outer_products(rows(grad_gates_h), rows(h_before)); });
    give([&] { return sum_of_rows(rows(grad_gates_x)); });
    give([&] { return sum_of_rows(rows(grad_gates_h)); });
    if (in.resets.defined()) {
      result.push_back(nothing(in.x)), i++;
      give([&] { return grad_reset_h; });
      if (has_cell) give([&] { return grad_reset_c; });
    }
    return result;
  }
};

Tensors backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                 const OptionalTensor& lengths, bool reverse, at::TensorList outputs, const c10::List<bool>& needs) {
  c10::DeviceGuard guard(device_of(inputs));
  Backward one(gates, Inputs(gates, inputs, lengths), grads, reverse, outputs, needs);
  if (auto launch = persistent_launch(gates, one.in, 1, false))
    persistent_backward(gates, {launch->division, {one.persistent()}}, type_of(one.in.x), current_stream(one.in.x));
  else
    one.loop();
  return one.results();
}

Tensors backward_both(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                      const OptionalTensor& lengths, at::TensorList outputs, const c10::List<bool>& needs) {
  BothDirections both(gates);
  auto split = both.backward(grads, inputs, outputs, needs);
  c10::DeviceGuard guard(device_of(inputs));
  Inputs in(gates, split[0].inputs, lengths);
  auto launch = persistent_launch(gates, in, 2, false);
  if (!launch) {
    auto one = [&](int d) {
      return backward(gates, split[d].grads, split[d].inputs, lengths, d == 1, split[d].outputs, split[d].needs);
    };
    return both.gradients({one(0), one(1)}, needs.get(0));
  }
  Backward first(gates, in, split[0].grads, false, split[0].outputs, split[0].needs),
      second(gates, Inputs(gates, split[1].inputs, lengths), split[1].grads, true, split[1].outputs, split[1].needs);
  PersistentBackward p{launch->division, {first.persistent(), second.persistent()}};
  persistent_backward(gates, p, type_of(in.x), current_stream(in.x));
  return both.gradients({first.results(), second.results()}, needs.get(0));
}

}  // namespace

Tensors gru_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&, bool reverse,
                    bool save) {
  return forward(kGru, inputs, lengths, reverse, save);
}

Tensors gru_backward(const OptionalTensors& grads, const OptionalTensors& inputs, const OptionalTensor& lengths,
                     const OptionalTensor&, bool reverse, at::TensorList outputs, const c10::List<bool>& needs) {
  return backward(kGru, grads, inputs, lengths, reverse, outputs, needs);
}

Tensors lstm_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&, bool reverse,
                     bool save) {
  return forward(kLstm, inputs, lengths, reverse, save);
}

Tensors lstm_backward(const OptionalTensors& grads, const OptionalTensors& inputs, const OptionalTensor& lengths,
                      const OptionalTensor&, bool reverse, at::TensorList outputs, const c10::List<bool>& needs) {
  return backward(kLstm, grads, inputs, lengths, reverse, outputs, needs);
}

Tensors gru_bidirectional_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&,
                                  bool, bool save) {
  return forward_both(kGru, inputs, lengths, save);
}

Tensors gru_bidirectional_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                   const OptionalTensor& lengths, const OptionalTensor&, bool, at::TensorList outputs,
                                   const c10::List<bool>& needs) {
  return backward_both(kGru, grads, inputs, lengths, outputs, needs);
}

Tensors lstm_bidirectional_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&,
                                   bool, bool save) {
  return forward_both(kLstm, inputs, lengths, save);
}

Tensors lstm_bidirectional_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                    const OptionalTensor& lengths, const OptionalTensor&, bool, at::TensorList outputs,
                                    const c10::List<bool>& needs) {
  return backward_both(kLstm, grads, inputs, lengths, outputs, needs);
}

}  // namespace s2s::cuda
