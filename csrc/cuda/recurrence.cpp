// gru and lstm on a GPU: the input's part of the gates is one product over all steps; then, with no synchronisation
// and no allocation in the loop, one product and one kernel a step. Weight gradients are one product after the loop.
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ge.h>
#include <ATen/ops/masked_fill.h>
#include <ATen/ops/zeros.h>

#include "cell.cuh"
#include "glue.h"
#include "ops.h"

namespace s2s::cuda {

namespace {

struct Inputs : RecurrenceArguments {
  Tensor lengths;

  Inputs(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths_)
      : RecurrenceArguments(gates, list, lengths_, contiguous), lengths(to_int64(lengths_)) {}

  bool rounded() const { return type != accumulate_type(type); }
  Tensor accumulate(at::IntArrayRef shape) const { return at::empty(shape, x.options().dtype(accumulate_type(type))); }

  // x with zeros past each row's length: what stands there, NaN included, must not reach a weight's gradient, nor a
  // product in which a library lets one row reach another (as PyTorch's own of bfloat16 on a CPU does).
  Tensor valid_part() const {
    if (!lengths.defined()) return x;
    Tensor past = at::ge(at::arange(steps, lengths.options()).unsqueeze(0), lengths.unsqueeze(1));
    return at::masked_fill(x, past.unsqueeze(2), 0);
  }
};

Tensors forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, bool reverse, bool save) {
  c10::DeviceGuard guard(device_of(inputs));
  Inputs in(gates, inputs, lengths);
  auto type = type_of(in.x);
  auto stream = current_stream(in.x);
  bool has_cell = gates == kLstm;
  int64_t steps = in.steps, hidden = in.hidden, wide = gates * hidden;
  Tensor gates_x = product(rows(in.valid_part()), in.weight_ih.t(), in.bias_ih);
  Tensor gates_h = in.empty({in.batch, wide}), output = in.empty({in.batch, steps, hidden});
  Tensor saved = save ? in.accumulate({in.batch, steps, 4 * hidden}) : in.accumulate({0});
  Tensor exact = save && in.rounded() ? in.accumulate(output.sizes()) : in.accumulate({0});
  Tensor cells = save && has_cell ? in.accumulate(output.sizes()) : in.accumulate({0});
  Tensor h = accumulator(in.h0), c = has_cell ? accumulator(in.c0) : Tensor();
  Tensor rounded_h = in.rounded() ? in.h0.clone() : h;
  CellForward a{in.batch, hidden, steps};
  a.lengths = int64_data(in.lengths);
  a.gates_x = data(gates_x), a.gates_x_strides = {steps * wide, wide};
  a.gates_h = data(gates_h), a.gates_h_strides = {wide, 0};
  a.h = data(h), a.c = data(c), a.rounded_h = in.rounded() ? data(rounded_h) : nullptr;
  a.output = data(output), a.output_strides = {steps * hidden, hidden}, a.exact_output = data(exact),
  a.saved = data(saved), a.cells = data(cells);
  for (int64_t step = 0; step < steps; step++) {
    product_out(gates_h, rounded_h, in.weight_hh.t(), in.bias_hh);
    a.t = reverse ? steps - 1 - step : step;
    cell_forward(gates, a, type, stream);
  }
  Tensors result = {output, h.to(in.type)};
  if (has_cell) result.push_back(c.to(in.type));
  result.insert(result.end(), {saved, exact});
  if (has_cell) result.push_back(cells);
  return result;
}

Tensors backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                 const OptionalTensor& lengths, bool reverse, at::TensorList outputs, const c10::List<bool>& needs) {
  c10::DeviceGuard guard(device_of(inputs));
  Inputs in(gates, inputs, lengths);
  in.check_backward(grads, outputs, needs);
  auto type = type_of(in.x);
  auto stream = current_stream(in.x);
  bool has_cell = gates == kLstm;
  int64_t steps = in.steps, hidden = in.hidden, wide = gates * hidden;
  Tensor grad_output = contiguous(grads.get(0)), grad_h = begin_as(grads.get(1), in.accumulate({in.batch, hidden}));
  Tensor grad_c = has_cell ? begin_as(grads.get(2), in.accumulate({in.batch, hidden})) : Tensor();
  Tensor grad_gates_h = in.empty({in.batch, steps, wide});
  Tensor grad_gates_x = has_cell ? grad_gates_h : in.empty({in.batch, steps, wide});
  Tensor h_before = in.empty({in.batch, steps, hidden});
  Tensor from_product = at::zeros({in.batch, hidden}, in.x.options());
  CellBackward a{in.batch, hidden, steps};
  a.reverse = reverse, a.lengths = int64_data(in.lengths);
  a.saved = data(outputs[has_cell ? 3 : 2]), a.cells = has_cell ? data(outputs[5]) : nullptr;
  a.output = data(in.rounded() ? outputs[has_cell ? 4 : 3] : outputs[0]);
  a.h0 = data(in.h0), a.c0 = data(in.c0);
  a.grad_output = data(grad_output), a.from_product = data(from_product);
  a.grad_h = data(grad_h), a.grad_c = data(grad_c);
  a.grad_gates_x = has_cell ? nullptr : data(grad_gates_x), a.grad_gates_h = data(grad_gates_h);
  a.grad_gates_x_strides = a.grad_gates_h_strides = {steps * wide, wide};
  a.h_before = data(h_before);
  for (int64_t step = 0; step < steps; step++) {
    a.t = reverse ? step : steps - 1 - step;
    cell_backward(gates, a, type, stream);
    product_out(from_product, grad_gates_h.select(1, a.t), in.weight_hh);
  }

  Tensors result;
  size_t i = 0;
  auto give = [&](auto make) { result.push_back(needs.get(i++) ? make().to(in.type) : nothing(in.x)); };
  give([&] { return product(rows(grad_gates_x), in.weight_ih).view(in.x.sizes()); });
  give([&] { return at::add(grad_h, from_product); });
  if (has_cell) give([&] { return grad_c; });
  give([&] { return outer_products(rows(grad_gates_x), rows(in.valid_part())); });
  give([&] { return outer_products(rows(grad_gates_h), rows(h_before)); });
  give([&] { return sum_of_rows(rows(grad_gates_x)); });
  give([&] { return sum_of_rows(rows(grad_gates_h)); });
  return result;
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

}  // namespace s2s::cuda
