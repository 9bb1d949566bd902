// The attention decoder on a GPU. Step t attends with h_t, makes the feed f_t, and runs the cell to h_{t+1}. x's part
// of the gates is one product before the loop; a step is one product of h with [weight_hh ; w_query ; w_feed's part]
// merged, the attention, the feed's product, and the cell. Backward keeps on the critical path only what the step
// before needs; all weights, keys, values and v get their gradients in one pass after the loop. The loops neither
// synchronise nor allocate what a CUDA graph could not own. S2S_CUDA_GRAPH=1 captures one step and replays it, forward
// for all but the first and the last, backward for all but the last two and the first.
#include <ATen/ops/add.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "additive_attention_splits.h"
#include "cell.cuh"
#include "feed.cuh"
#include "glue.h"
#include "ops.h"
#include "persistent_attention/persistent_attention_host.h"
#include "replay.h"

namespace s2s::cuda {

namespace {

struct Inputs : AttentionRecurrenceArguments {
  int64_t gates;
  bool has_cell, has_feed, has_first;
  // Rows of the merged weight, in order: gates, queries, and the state's part of w_feed.
  int64_t wide, asked, merged;
  Tensor lengths, mask;

  Inputs(int64_t gates_, const OptionalTensors& list, const OptionalTensor& lengths_, const OptionalTensor& mask_)
      : AttentionRecurrenceArguments(gates_, list, lengths_, mask_, contiguous),
        gates(gates_),
        has_cell(gates_ == kLstm),
        has_feed(w_feed.defined()),
        has_first(first_feed.defined()),
        wide(gates_ * hidden),
        asked(heads * attention),
        merged(wide + asked + (w_feed.defined() ? feed : 0)),
        lengths(to_int64(lengths_)),
        mask(contiguous(mask_)) {}

  bool rounded() const { return type != accumulate_type(type); }
  Tensor accumulate(at::IntArrayRef shape) const { return at::empty(shape, x.options().dtype(accumulate_type(type))); }
  Tensor zeros(at::IntArrayRef shape) const { return at::zeros(shape, x.options()); }

  Tensor merged_weight() const {
    return has_feed ? at::cat({weight_hh, w_query, feed_h()}) : at::cat({weight_hh, w_query});
  }
  Tensor merged_bias() const {
    return merged_biases({{bias_hh, wide}, {b_query, asked}, {b_feed, merged - wide - asked}}, x);
  }

  // One query a row and head, at every step.
  AttentionSizes sizes() const { return {batch, 1, heads, source, attention, width}; }
  // Of (B, steps, size), where the kernels see one step.
  static Strides strides(int64_t steps, int64_t size) { return {steps * size, size}; }
};

// From one column on, of step t of (B, T, columns).
void* columns_of(const Tensor& x, int64_t t, int64_t column) {
  void* p = data(x, t);
  return p ? static_cast<char*>(p) + column * x.element_size() : nullptr;
}

Tensors forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                bool save) {
  c10::DeviceGuard guard(device_of(inputs));
  Inputs in(gates, inputs, lengths, mask);
  auto type = type_of(in.x);
  int64_t batch = in.batch, steps = in.steps, hidden = in.hidden, asked = in.asked, context = in.context();
  Tensor weight = in.merged_weight().t(), bias = in.merged_bias();
  Tensor gates_x = product(rows(in.x), in.weight_x().t(), in.bias_ih);
  Tensor sums = in.empty({batch, 1, in.merged}), fed_gates = in.empty({batch, in.wide});
  Tensor feed_c_part = in.has_feed ? in.empty({batch, in.feed}) : Tensor();

  auto none = [&] { return in.accumulate({0}); };
  bool exact = save && in.rounded();
  Tensor states = in.empty({batch, steps, hidden}), contexts = in.empty({batch, steps + 1, context});
  Tensor feeds = in.has_feed ? in.empty({batch, steps + 1, in.feed}) : nothing(in.x);
  Tensor exact_states = exact ? in.accumulate(states.sizes()) : none();
  Tensor exact_contexts = exact ? in.accumulate(contexts.sizes()) : none();
  Tensor exact_feeds = exact ? in.accumulate(feeds.sizes()) : none();
  Tensor exact_weights = in.accumulate(in.weights_shape());
  Tensor weights = in.rounded() ? in.empty(exact_weights.sizes()) : exact_weights;
  Tensor saved = save ? in.accumulate({batch, steps, 4 * hidden}) : none();
  Tensor cells = save && in.has_cell ? in.accumulate(states.sizes()) : none();
  Tensor queries = save ? in.accumulate({batch, steps + 1, asked}) : none();
  Tensor h = accumulator(in.h0), c = in.has_cell ? accumulator(in.c0) : Tensor();
  Tensor rounded_h = in.rounded() ? in.h0.clone() : h;

  AttentionForward attend{in.sizes()};
  attend.query = columns_of(sums, 0, in.wide), attend.query_strides = {in.merged, 0};
  attend.keys = data(in.keys), attend.values = data(in.values), attend.v = data(in.v);
  attend.lengths = int64_data(in.lengths), attend.mask = bool_data(in.mask);
  attend.context_strides = Inputs::strides(steps + 1, context);
  attend.weights_strides = Inputs::strides(steps + 1, in.heads * in.source);
  attend.query_copy_strides = Inputs::strides(steps + 1, asked);
  Splits splits = split_forward(attend, in.x);

  FeedForward make_feed{batch, in.feed};
  make_feed.h_part = columns_of(sums, 0, in.wide + asked), make_feed.h_part_stride = in.merged;
  make_feed.c_part = data(feed_c_part), make_feed.c_part_stride = in.feed;
  make_feed.feed_stride = (steps + 1) * in.feed;

  CellForward cell{batch, hidden, steps};
  cell.gates_x = data(gates_x), cell.gates_x_strides = Inputs::strides(steps, in.wide);
  cell.gates_h = data(sums), cell.gates_h_strides = {in.merged, 0};
  cell.more_gates = data(fed_gates), cell.more_gates_strides = {in.wide, 0};
  cell.h = data(h), cell.c = data(c), cell.rounded_h = in.rounded() ? data(rounded_h) : nullptr;
  cell.output = data(states), cell.output_strides = Inputs::strides(steps, hidden),
  cell.exact_output = data(exact_states);
  cell.saved = data(saved), cell.cells = data(cells);

  // All steps as one launch, and then all attention once more: of all queries together it costs little.
  auto plan = persistent_plan(gates, in);
  if (plan) {
    Tensor all_queries = run_persistent_forward(*plan, gates, in, in.lengths, in.mask, cell);
    attend.queries = steps + 1;
    splits = split_forward(attend, in.x);
    attend.query = data(all_queries), attend.query_strides = Inputs::strides(steps + 1, asked);
    attend.context = data(contexts), attend.exact_context = exact ? data(exact_contexts) : nullptr;
    attend.exact_weights = data(exact_weights), attend.weights = in.rounded() ? data(weights) : nullptr;
    attend.query_copy = data(queries);
    attention_forward(attend, type, current_stream(in.x));
  }
  // Step t; or, where `number` is given, the one that it says in the GPU's memory, whose products then read copies that
  // every step has in the same place.
  Tensor number, context_copy, feed_copy;
  auto step = [&](int64_t t, const int32_t* number) {
    auto stream = current_stream(in.x);  // another one while a step is captured
    product_out(sums.select(1, 0), rounded_h, weight, bias);
    attend.context = data(contexts, t), attend.exact_context = exact ? data(exact_contexts, t) : nullptr;
    attend.exact_weights = data(exact_weights, t), attend.weights = in.rounded() ? data(weights, t) : nullptr;
    attend.query_copy = save ? data(queries, t) : nullptr;
    attend.step = number, attend.context_copy = number ? data(context_copy) : nullptr;
    attention_forward(attend, type, stream);
    bool first_fed = t == 0 && in.has_first && !number;
    if (in.has_feed && first_fed) {
      feeds.select(1, 0).copy_(in.first_feed);
      if (exact) exact_feeds.select(1, 0).copy_(in.first_feed);
    } else if (in.has_feed) {
      product_out(feed_c_part, number ? context_copy : contexts.select(1, t), in.feed_c().t());
      make_feed.feed = data(feeds, t), make_feed.exact_feed = exact ? data(exact_feeds, t) : nullptr;
      make_feed.step = number, make_feed.feed_copy = number ? data(feed_copy) : nullptr;
      feed_forward(make_feed, type, stream);
    }
    if (t == steps) return;
    Tensor fed = number      ? (in.has_feed ? feed_copy : context_copy)
                 : first_fed ? in.first_feed
                             : (in.has_feed ? feeds : contexts).select(1, t);
    product_out(fed_gates, fed, in.weight_feed().t());
    cell.t = t, cell.step = number;
    cell_forward(gates, cell, type, stream);
  };
  // Unasked once a measurement says that it is faster.
  bool replays = steps > kWorthCapturing && wants_graph(false);
  std::function<void()> replay;
  for (int64_t t = 0; !plan && t <= steps; t++) {
    if (t == 1 && replays) {
      number = at::ones({1}, in.x.options().dtype(at::kInt));
      context_copy = in.empty({batch, context}), feed_copy = in.has_feed ? in.empty({batch, in.feed}) : Tensor();
      replay = captured(in.x, [&] {
        step(0, static_cast<const int32_t*>(data(number)));
        number.add_(1);
      });
    }
    if (replay && t > 0 && t < steps)
      replay();
    else
      step(t, nullptr);
  }

  Tensors result = {states, contexts, weights, feeds, h.to(in.type)};
  if (in.has_cell) result.push_back(c.to(in.type));
  result.push_back(saved);
  if (in.has_cell) result.push_back(cells);
  result.insert(result.end(), {queries, exact_states, exact_contexts, exact ? exact_weights : none(), exact_feeds});
  return result;
}

Tensors backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                 const OptionalTensor& lengths, const OptionalTensor& mask, at::TensorList outputs,
                 const c10::List<bool>& needs) {
  c10::DeviceGuard guard(device_of(inputs));
  Inputs in(gates, inputs, lengths, mask);
  in.check_backward(grads, outputs, needs);
  auto type = type_of(in.x);
  auto stream = current_stream(in.x);
  int64_t batch = in.batch, steps = in.steps, hidden = in.hidden, wide = in.wide, asked = in.asked;
  int64_t context = in.context();
  size_t last = in.has_cell ? 9 : 7, exact = in.rounded() ? last : 0;  // where the unrounded outputs begin
  const Tensor &states = outputs[0], &contexts = outputs[1], &feeds = outputs[3], &queries = outputs[last - 1];
  Tensor grad_states = contiguous(grads.get(0)), grad_contexts = contiguous(grads.get(1));
  Tensor grad_weights = contiguous(grads.get(2)), grad_feeds = in.has_feed ? contiguous(grads.get(3)) : Tensor();
  Tensor grad_h = begin_as(grads.get(4), in.accumulate({batch, hidden}));
  Tensor grad_c = in.has_cell ? begin_as(grads.get(5), in.accumulate({batch, hidden})) : Tensor();

  // Gradients of what the merged weight made at each step, t = T included, which no gates follow.
  Tensor weight = in.merged_weight(), grad_sums = in.empty({batch, steps + 1, in.merged});
  grad_sums.select(1, steps).narrow(1, 0, wide).zero_();
  if (in.has_feed && in.has_first) grad_sums.select(1, 0).narrow(1, wide + asked, in.feed).zero_();
  Tensor grad_gates_x = in.empty({batch, steps, wide});
  Tensor grad_scores = in.accumulate({batch, steps + 1, in.heads, in.source});
  Tensor sum_grad_contexts = in.empty({batch, steps + 1, context});
  Tensor from_product = in.empty({batch, hidden}), grad_fed = in.zeros({batch, in.feed});
  Tensor through_feed = in.has_feed ? in.empty({batch, context}) : Tensor();

  CellBackward cell{batch, hidden, steps};
  cell.saved = data(outputs[in.has_cell ? 6 : 5]), cell.cells = in.has_cell ? data(outputs[7]) : nullptr;
  cell.output = data(outputs[exact]);
  cell.h0 = data(in.h0), cell.c0 = data(in.c0);
  cell.grad_output = data(grad_states), cell.from_product = data(from_product);
  cell.grad_h = data(grad_h), cell.grad_c = data(grad_c);
  cell.grad_gates_x = data(grad_gates_x), cell.grad_gates_x_strides = Inputs::strides(steps, wide);
  cell.grad_gates_h = data(grad_sums), cell.grad_gates_h_strides = Inputs::strides(steps + 1, in.merged);

  FeedBackward feed{batch, in.feed};
  feed.feed_stride = feed.more_grad_stride = (steps + 1) * in.feed, feed.grad_stride = in.feed;
  feed.grad_sum_stride = (steps + 1) * in.merged;

  AttentionBackward attend{in.sizes()};
  attend.query_strides = Inputs::strides(steps + 1, asked);
  attend.keys = data(in.keys), attend.values = data(in.values), attend.v = data(in.v);
  attend.weights_strides = attend.grad_weights_strides = Inputs::strides(steps + 1, in.heads * in.source);
  attend.grad_context_strides = attend.sum_grad_context_strides = Inputs::strides(steps + 1, context);
  attend.more_grad_context_strides = {context, 0};
  attend.grad_query_strides = Inputs::strides(steps + 1, in.merged);
  Splits splits = split_backward(attend, in.x);

  auto plan = persistent_plan(gates, in);
  if (plan) {
    // What the outputs' gradients give to those of all scores, at once; the rest comes step by step, in one launch.
    Tensor given = grad_contexts.defined() || grad_weights.defined() ? in.accumulate(grad_scores.sizes()) : Tensor();
    if (given.defined()) {
      AttentionBackward all = attend;
      all.queries = steps + 1, all.query = data(queries), all.weights = data(outputs[exact + 2]);
      all.grad_context = data(grad_contexts), all.grad_weights = data(grad_weights), all.grad_scores = data(given);
      Splits splits = split_backward(all, in.x);
      attention_backward(all, type, stream);
    }
    Tensor grad_queries = grad_sums.narrow(2, wide, asked);
    run_persistent_backward(*plan, gates, in, in.lengths, in.mask, cell,
                            {queries, outputs[exact + 2], given, grad_scores, grad_queries});
    from_product.zero_();
    // Contexts get the rest of their gradients, as what all steps but a caller's first were fed.
    Tensor all_grad_fed = product(rows(grad_gates_x), in.weight_feed()).view({batch, steps, in.feed});
    int64_t first = in.has_first;
    begin_as(grads.get(1), sum_grad_contexts);
    sum_grad_contexts.narrow(1, first, steps - first).add_(all_grad_fed.narrow(1, first, steps - first));
    grad_fed = all_grad_fed.select(1, 0);
  }
  // Step t; or, as forward, the one that `number` says in the GPU's memory, whose products read copies.
  Tensor number, gates_copy, sums_copy;
  auto step = [&](int64_t t, const int32_t* number) {
    auto stream = current_stream(in.x);  // another one while a step is captured
    if (t < steps) {
      cell.t = t, cell.step = number;
      cell.copy_gates_x = number ? data(gates_copy) : nullptr, cell.copy_gates_h = number ? data(sums_copy) : nullptr;
      cell.copy_stride = in.merged;
      cell_backward(gates, cell, type, stream);
      product_out(grad_fed, number ? gates_copy : grad_gates_x.select(1, t), in.weight_feed());
    }
    Tensor sums = number ? sums_copy : grad_sums.select(1, t);
    // The gradient of this step's context through its feed; of t = T, and of a caller's feed, there is none.
    attend.more_grad_context = nullptr;
    if (t == 0 && in.has_first && !number) {
    } else if (in.has_feed) {
      feed.feed = data(outputs[exact + 3], t);
      feed.grad = t < steps ? data(grad_fed) : nullptr, feed.more_grad = data(grad_feeds, t);
      feed.grad_sum = columns_of(grad_sums, t, wide + asked), feed.sum_step = in.merged, feed.step = number;
      feed.grad_sum_copy = number ? columns_of(sums_copy, 0, wide + asked) : nullptr, feed.copy_stride = in.merged;
      feed_backward(feed, type, stream);
      product_out(through_feed, sums.narrow(1, wide + asked, in.feed), in.feed_c());
      attend.more_grad_context = data(through_feed);
    } else if (t < steps) {
      attend.more_grad_context = data(grad_fed);
    }
    attend.query = data(queries, t), attend.weights = data(outputs[exact + 2], t);
    attend.grad_context = data(grad_contexts, t), attend.grad_weights = data(grad_weights, t);
    attend.grad_scores = data(grad_scores, t), attend.sum_grad_context = data(sum_grad_contexts, t);
    attend.grad_query = columns_of(grad_sums, t, wide), attend.step = number;
    attend.grad_query_copy = number ? columns_of(sums_copy, 0, wide) : nullptr;
    attend.grad_query_copy_strides = {in.merged, 0};
    attention_backward(attend, type, stream);
    product_out(from_product, sums, weight);
  };
  bool replays = steps > kWorthCapturing && wants_graph(false);
  std::function<void()> replay;
  for (int64_t t = steps; !plan && t >= 0; t--) {
    if (t == steps - 2 && replays) {
      number = at::full({1}, t, in.x.options().dtype(at::kInt));
      gates_copy = in.empty({batch, wide}), sums_copy = in.empty({batch, in.merged});
      replay = captured(in.x, [&] {
        step(0, static_cast<const int32_t*>(data(number)));
        number.sub_(1);
      });
    }
    if (replay && t > 0)
      replay();
    else
      step(t, nullptr);
  }

  Tensors result;
  size_t i = 0;
  auto give = [&](auto make) { result.push_back(needs.get(i++) ? make().to(in.type) : nothing(in.x)); };
  Tensor all_gates = rows(grad_gates_x), all_sums = rows(grad_sums), grad_keys, grad_v;
  size_t keys_at = in.has_cell ? 3 : 2;
  if (needs.get(keys_at) || needs.get(keys_at + 2)) {
    grad_keys = in.empty(in.keys.sizes());
    grad_v = in.accumulate({batch, source_groups(in.source), in.heads, in.attention});
    AttentionSourceBackward s{in.sizes()};
    s.queries = steps + 1;
    s.query = data(queries), s.query_strides = attend.query_strides, s.keys = attend.keys, s.v = attend.v;
    s.grad_scores = data(grad_scores), s.grad_scores_strides = attend.weights_strides;
    s.grad_keys = data(grad_keys), s.grad_v = data(grad_v);
    attention_source_backward(s, type, stream);
  }
  // Of the merged weight, and of its bias.
  Tensor grad_weight, grad_bias;
  if (needs.get(keys_at + 3) || needs.get(keys_at + 6) || needs.get(keys_at + 9))
    grad_weight = outer_products(all_sums, rows(at::cat({in.h0.unsqueeze(1), states}, 1)));
  grad_bias = sum_of_rows(all_sums);

  give([&] { return product(all_gates, in.weight_x()).view(in.x.sizes()); });
  give([&] { return at::add(grad_h, from_product); });
  if (in.has_cell) give([&] { return grad_c; });
  give([&] { return in.v_shape.size() == 2 ? grad_keys : grad_keys.squeeze(2); });
  give([&] {
    int64_t all = (steps + 1) * in.heads;
    return at::bmm(outputs[2].view({batch, all, in.source}).transpose(1, 2),
                   sum_grad_contexts.view({batch, all, in.width}));
  });
  give([&] { return at::sum(grad_v, at::IntArrayRef({0, 1})).view(in.v_shape); });
  give([&] { return grad_weight.narrow(0, wide, asked).clone(); });
  give([&] { return grad_bias.narrow(0, wide, asked).clone(); });
  give([&] {
    Tensor fed = (in.has_feed ? feeds : contexts).narrow(1, 0, steps);
    if (in.has_first && steps > 0) fed = at::cat({in.first_feed.unsqueeze(1), fed.narrow(1, 1, steps - 1)}, 1);
    return at::cat({outer_products(all_gates, rows(in.x)), outer_products(all_gates, rows(fed))}, 1);
  });
  give([&] { return grad_weight.narrow(0, 0, wide).clone(); });
  give([&] { return sum_of_rows(all_gates); });
  give([&] { return grad_bias.narrow(0, 0, wide).clone(); });
  give([&] {
    return at::cat({grad_weight.narrow(0, wide + asked, in.feed),
                    outer_products(all_sums.narrow(1, wide + asked, in.feed), rows(contexts))},
                   1);
  });
  give([&] { return grad_bias.narrow(0, wide + asked, in.feed).clone(); });
  give([&] { return grad_feeds.defined() ? at::add(grad_fed, grad_feeds.select(1, 0)) : grad_fed; });
  return result;
}

}  // namespace

Tensors attention_gru_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                              bool, bool save) {
  return forward(kGru, inputs, lengths, mask, save);
}

Tensors attention_gru_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                               const OptionalTensor& lengths, const OptionalTensor& mask, bool, at::TensorList outputs,
                               const c10::List<bool>& needs) {
  return backward(kGru, grads, inputs, lengths, mask, outputs, needs);
}

Tensors attention_lstm_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                               bool, bool save) {
  return forward(kLstm, inputs, lengths, mask, save);
}

Tensors attention_lstm_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                const OptionalTensor& lengths, const OptionalTensor& mask, bool, at::TensorList outputs,
                                const c10::List<bool>& needs) {
  return backward(kLstm, grads, inputs, lengths, mask, outputs, needs);
}

}  // namespace s2s::cuda
