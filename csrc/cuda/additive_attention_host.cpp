// Additive attention on a GPU: checks, memory, and what a library's products do best.
#include <ATen/ops/bmm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "additive_attention_splits.h"
#include "glue.h"
#include "ops.h"

namespace s2s::cuda {

namespace {

struct Inputs : AttentionArguments {
  Tensor lengths, mask;

  Inputs(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v, const OptionalTensor& lengths_,
         const OptionalTensor& mask_, const OptionalTensor& bias)
      : AttentionArguments(query, keys, values, v, lengths_, mask_, bias, contiguous),
        lengths(to_int64(lengths_)),
        mask(contiguous(mask_)) {}

  at::ScalarType type() const { return query.scalar_type(); }
  Tensor accumulator(at::IntArrayRef shape) const {
    return at::empty(shape, query.options().dtype(accumulate_type(type())));
  }
  AttentionSizes sizes() const { return {batch, queries, heads, source, attention, width}; }
  // Of a contiguous tensor (B, T, N, size).
  Strides strides(int64_t size) const { return {queries * heads * size, heads * size}; }
};

// Fills the exact weights and what else is defined.
void forward(const Inputs& in, const Tensor& context, const Tensor& weights, const Tensor& exact_weights) {
  AttentionForward a{in.sizes()};
  a.query = data(in.query), a.query_strides = in.strides(in.attention);
  a.keys = data(in.keys), a.values = data(in.values), a.v = data(in.v);
  a.lengths = int64_data(in.lengths), a.mask = bool_data(in.mask);
  a.bias = data(in.bias), a.bias_strides = {in.bias_stride ? in.queries * in.source : in.source, in.bias_stride};
  a.context = data(context), a.context_strides = in.strides(in.width);
  a.weights = data(weights), a.exact_weights = data(exact_weights), a.weights_strides = in.strides(in.source);
  Splits splits = split_forward(a, in.query);
  attention_forward(a, type_of(in.query), current_stream(in.query));
}

}  // namespace

Two additive_attention(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                       const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias) {
  c10::DeviceGuard guard(query.device());
  Inputs in(query, keys, values, v, lengths, mask, bias);
  Tensor context = in.empty(in.shape(in.width)), exact = in.accumulator(in.shape(in.source));
  Tensor weights = exact.scalar_type() == in.type() ? Tensor() : in.empty(exact.sizes());
  forward(in, context, weights, exact);
  return {context, weights.defined() ? weights : exact};
}

Five additive_attention_backward(const OptionalTensor& grad_context, const OptionalTensor& grad_weights,
                                 const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                                 const Tensor& weights, const OptionalTensor& lengths, const OptionalTensor& mask,
                                 const OptionalTensor& bias, Needs<5> needs) {
  c10::DeviceGuard guard(query.device());
  Inputs in(query, keys, values, v, lengths, mask, bias);
  in.check_backward(query, grad_context, grad_weights, weights, needs[4]);
  auto type = type_of(query);
  auto stream = current_stream(query);
  Tensor grad_c = contiguous(grad_context), grad_w = contiguous(grad_weights), exact = weights.contiguous();
  if (exact.scalar_type() != accumulate_type(in.type())) {
    // Saturated weights rounded to 16 bits leave nothing of their gradient: make them again.
    exact = in.accumulator(weights.sizes());
    forward(in, Tensor(), Tensor(), exact);
  }
  Tensor grad_query = needs[0] ? in.empty(query.sizes()) : nothing(query), grad_keys = nothing(query);
  Tensor grad_values = grad_keys, grad_v = grad_keys, grad_bias = grad_keys;
  if (needs[0] || needs[1] || needs[3] || needs[4]) {
    Tensor exact_query = to_accumulate(in.query), grad_scores = in.accumulator(exact.sizes());
    AttentionBackward a{in.sizes()};
    a.query = data(exact_query), a.query_strides = in.strides(in.attention);
    a.keys = data(in.keys), a.values = data(in.values), a.v = data(in.v);
    a.weights = data(exact), a.weights_strides = in.strides(in.source);
    a.grad_context = data(grad_c), a.grad_context_strides = in.strides(in.width);
    a.grad_weights = data(grad_w), a.grad_weights_strides = in.strides(in.source);
    a.grad_scores = data(grad_scores);
    a.grad_query = data(grad_query), a.grad_query_strides = in.strides(in.attention);
    Splits splits = split_backward(a, in.query);
    attention_backward(a, type, stream);
    if (needs[1] || needs[3]) {
      grad_keys = in.empty(keys.sizes());
      Tensor parts = in.accumulator({in.batch, source_groups(in.source), in.heads, in.attention});
      AttentionSourceBackward s{in.sizes()};
      s.query = a.query, s.query_strides = a.query_strides, s.keys = a.keys, s.v = a.v;
      s.grad_scores = a.grad_scores, s.grad_scores_strides = a.weights_strides;
      s.grad_keys = data(grad_keys), s.grad_v = data(parts);
      attention_source_backward(s, type, stream);
      if (!needs[1]) grad_keys = nothing(query);
      if (needs[3]) grad_v = at::sum(parts, at::IntArrayRef({0, 1})).to(in.type()).view(v.sizes());
    }
    if (needs[4]) {
      Tensor by_head = grad_scores.view({in.batch, in.queries, in.heads, in.source});
      grad_bias = at::sum(by_head, bias->dim() == 3 ? at::IntArrayRef({2}) : at::IntArrayRef({1, 2})).to(in.type());
    }
  }
  if (needs[2]) {
    int64_t rows = in.queries * in.heads;
    if (grad_c.defined())
      grad_values = at::bmm(weights.reshape({in.batch, rows, in.source}).transpose(1, 2),
                            grad_c.view({in.batch, rows, in.width}));
    else
      grad_values = at::zeros(in.values.sizes(), in.values.options());
  }
  return {grad_query, grad_keys, grad_values, grad_v, grad_bias};
}

}  // namespace s2s::cuda
