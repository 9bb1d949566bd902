// The attention decoder. Step t attends with h_t, makes the feed f_t, and runs the cell to h_{t+1}; x's part of the
// gates is one product before the loop. Backward keeps on the critical path only what the step before needs (the
// gradients of h, the feed and the query); keys, values, v and all weights get theirs in one pass after the loop.
#include "attention_recurrence.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/zeros.h>

#include <cstring>

#include "cell.h"
#include "memory.h"

namespace s2s::cpu {

namespace {

struct Inputs : AttentionRecurrenceArguments {
  Inputs(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths, const OptionalTensor& mask)
      : AttentionRecurrenceArguments(gates, list, lengths, mask, to_compute) {}

  Tensor zeros(at::IntArrayRef shape) const { return at::zeros(shape, x.options()); }

  double step_work(int64_t gates) const {
    return 2.0 * batch * (hidden * (gates * hidden + heads * attention) + feed * gates * hidden);
  }
};

struct Outputs {
  Tensor states, contexts, weights, feeds, h_n, c_n, gates, cells, queries;
};

template <class T>
void forward(int64_t gates, const Inputs& in, const Positions& positions, Outputs& out, bool save) {
  int64_t hidden = in.hidden, steps = in.steps, wide = gates * hidden, asked = in.heads * in.attention;
  auto query_weight = Packed<T>::transposed(in.w_query), hidden_weight = Packed<T>::transposed(in.weight_hh);
  auto feed_weight = Packed<T>::transposed(in.weight_feed());
  bool has_cell = gates == kLstm, has_feed = in.w_feed.defined();
  Packed<T> feed_h, feed_c;
  if (has_feed) feed_h = Packed<T>::transposed(in.feed_h()), feed_c = Packed<T>::transposed(in.feed_c());
  Memory<T> memory(in.keys, in.values, in.v, positions);
  CellKernels<T> cell(gates);
  const auto& kernel = kernels<T>();
  Tensor gates_buffer = in.empty({in.batch, wide}), c_buffer = in.empty({in.batch, hidden});
  // Without `save` the queries of one step are enough.
  int64_t query_rows = save ? steps + 1 : 1;
  T *states = data<T>(out.states), *contexts = data<T>(out.contexts), *weights = data<T>(out.weights);
  T *feeds = data<T>(out.feeds), *queries = data<T>(out.queries), *saved = data<T>(out.gates);

  run_teams(in.batch, in.step_work(gates) * steps, [&](int64_t group, int64_t groups, const Team& team) {
    auto [first, last] = split(in.batch, groups, group);
    int64_t rows = last - first;
    auto [begin, end] = team.part(hidden);
    auto [attend_begin, attend_end] = team.part(rows * in.heads);
    auto [feed_begin, feed_end] = team.part(rows);
    T *gates_h = data<T>(gates_buffer) + first * wide, *c = data<T>(c_buffer) + first * hidden;
    if (has_cell)
      for (int64_t i = 0; i < rows; i++)
        std::copy(data<T>(in.c0) + (first + i) * hidden + begin, data<T>(in.c0) + (first + i) * hidden + end,
                  c + i * hidden + begin);

    for (int64_t t = 0; t <= steps; t++) {
      // h_t, its rows h_stride apart
      const T* h = t == 0 ? data<T>(in.h0) + first * hidden : states + (first * steps + t - 1) * hidden;
      int64_t h_stride = t == 0 ? hidden : steps * hidden;
      int64_t query_t = save ? t : 0;
      T* query = queries + (first * query_rows + query_t) * asked;
      query_weight.apply(team, rows, h, h_stride, query, query_rows * asked, data<T>(in.b_query), false);
      if (t < steps) hidden_weight.apply(team, rows, h, h_stride, gates_h, wide, data<T>(in.bias_hh), false);
      T* feed = feeds + (first * (steps + 1) + t) * in.feed;
      if (has_feed) feed_h.apply(team, rows, h, h_stride, feed, (steps + 1) * in.feed, data<T>(in.b_feed), false);
      team.sync();

      for (int64_t i = attend_begin; i < attend_end; i++) {
        int64_t b = first + i / in.heads, n = i % in.heads;
        auto source = memory.source(b, n);
        T* w = weights + ((b * (steps + 1) + t) * in.heads + n) * in.source;
        kernel.scores(source, queries + (b * query_rows + query_t) * asked + n * in.attention, w);
        kernel.softmax(w, source.positions, source.count, nullptr);
        kernel.context(source, w, contexts + (b * (steps + 1) + t) * in.context() + n * in.width);
        kernel.scatter(w, source.positions, source.count, in.source);
      }
      team.sync();

      const T* context = contexts + (first * (steps + 1) + t) * in.context();
      if (has_feed) {
        feed_c.apply(team, rows, context, (steps + 1) * in.context(), feed, (steps + 1) * in.feed, nullptr, true);
        team.sync();
        for (int64_t i = feed_begin; i < feed_end; i++) {
          T* row = feeds + ((first + i) * (steps + 1) + t) * in.feed;
          if (t == 0 && in.first_feed.defined())
            std::copy_n(data<T>(in.first_feed) + (first + i) * in.feed, in.feed, row);
          else
            kernel.tanh_rows(row, in.feed);
        }
        team.sync();
      }
      if (t == steps) break;

      const T* fed = has_feed ? feed : context;
      int64_t fed_stride = (steps + 1) * in.feed;
      if (t == 0 && in.first_feed.defined()) fed = data<T>(in.first_feed) + first * in.feed, fed_stride = in.feed;
      feed_weight.apply(team, rows, fed, fed_stride, saved + (first * steps + t) * 4 * hidden, steps * 4 * hidden,
                        nullptr, true);
      team.sync();
      for (int64_t i = 0; i < rows; i++) {
        int64_t at = (first + i) * steps + t;
        T *row = saved + at * 4 * hidden, *c_row = c + i * hidden;
        cell.forward(row, gates_h + i * wide, h + i * h_stride, c_row, states + at * hidden, c_row,
                     save ? row : nullptr, hidden, begin, end);
        if (has_cell && save) std::copy(c_row + begin, c_row + end, data<T>(out.cells) + at * hidden + begin);
      }
      team.sync();
    }
    for (int64_t i = 0; i < rows; i++) {
      int64_t b = first + i;
      const T* h = steps ? states + (b * steps + steps - 1) * hidden : data<T>(in.h0) + b * hidden;
      std::copy(h + begin, h + end, data<T>(out.h_n) + b * hidden + begin);
      if (has_cell) std::copy(c + i * hidden + begin, c + i * hidden + end, data<T>(out.c_n) + b * hidden + begin);
    }
  });
}

// What the loop leaves for the pass after it. Gradients at t = T, whose query and feed no step follows, are apart:
// the others then line up with x and the previous states as (B * T, ...).
struct Gradients {
  Tensor gates;              // (B, T, 4H)
  Tensor query, last_query;  // (B, T, N * A), (B, N * A)
  Tensor scores;             // (B, T+1, N, S), compact
  Tensor contexts;           // (B, T+1, N * D)
  Tensor feed, last_feed;    // (B, T, F), (B, F): of the sum under tanh, with w_feed
  Tensor first_feed, h0, c0;
};

template <class T>
void backward(int64_t gates, const Inputs& in, const Memory<T>& memory, const Outputs& out, const Outputs& grad,
              const Gradients& made) {
  int64_t hidden = in.hidden, steps = in.steps, wide = gates * hidden, asked = in.heads * in.attention;
  auto query_weight = Packed<T>::straight(in.w_query), hidden_weight = Packed<T>::straight(in.weight_hh);
  auto feed_weight = Packed<T>::straight(in.weight_feed());
  bool has_cell = gates == kLstm, has_feed = in.w_feed.defined(), has_first = in.first_feed.defined();
  Packed<T> feed_h, feed_c;
  if (has_feed) feed_h = Packed<T>::straight(in.feed_h()), feed_c = Packed<T>::straight(in.feed_c());
  CellKernels<T> cell(gates);
  const auto& kernel = kernels<T>();
  Tensor gates_buffer = in.empty({in.batch, wide});
  T *grad_contexts = data<T>(made.contexts), *scores = data<T>(made.scores);
  const T *weights = data<T>(out.weights), *queries = data<T>(out.queries);
  const T* grad_weights = data<T>(grad.weights);

  run_teams(in.batch, 2 * in.step_work(gates) * steps, [&](int64_t group, int64_t groups, const Team& team) {
    auto [first, last] = split(in.batch, groups, group);
    int64_t rows = last - first;
    auto [begin, end] = team.part(hidden);
    auto [attend_begin, attend_end] = team.part(rows * in.heads);
    auto [feed_begin, feed_end] = team.part(rows);
    T* gates_h = data<T>(gates_buffer) + first * wide;
    T *grad_h = data<T>(made.h0) + first * hidden, *grad_c = data<T>(made.c0) + first * hidden;

    for (int64_t t = steps; t >= 0; t--) {
      bool first_fed = t == 0 && has_first;  // the feed of this step was the caller's
      // Gradient of this step's feed, under tanh where there is one.
      T* feed = first_fed    ? data<T>(made.first_feed) + first * in.feed
                : !has_feed  ? grad_contexts + (first * (steps + 1) + t) * in.context()
                : t == steps ? data<T>(made.last_feed) + first * in.feed
                             : data<T>(made.feed) + (first * steps + t) * in.feed;
      int64_t feed_stride = first_fed    ? in.feed
                            : !has_feed  ? (steps + 1) * in.feed
                            : t == steps ? in.feed
                                         : steps * in.feed;
      if (t < steps) {
        for (int64_t i = 0; i < rows; i++) {
          int64_t b = first + i, at = b * steps + t;
          if (grad.states.defined())
            kernel.add(grad_h + i * hidden + begin, data<T>(grad.states) + at * hidden + begin, end - begin);
          const T* h = t == 0 ? data<T>(in.h0) + b * hidden : data<T>(out.states) + (at - 1) * hidden;
          const T* c = !has_cell ? nullptr
                       : t == 0  ? data<T>(in.c0) + b * hidden
                                 : data<T>(out.cells) + (at - 1) * hidden;
          cell.backward(data<T>(out.gates) + at * 4 * hidden, h, c,
                        has_cell ? data<T>(out.cells) + at * hidden : nullptr, grad_h + i * hidden,
                        has_cell ? grad_c + i * hidden : nullptr, data<T>(made.gates) + at * 4 * hidden,
                        gates_h + i * wide, hidden, begin, end);
        }
        team.sync();
        feed_weight.apply(team, rows, data<T>(made.gates) + (first * steps + t) * 4 * hidden, steps * 4 * hidden, feed,
                          feed_stride, nullptr, true);
        hidden_weight.apply(team, rows, gates_h, wide, grad_h, hidden, nullptr, true);
        team.sync();
      }
      if (has_feed) {
        for (int64_t i = feed_begin; i < feed_end; i++) {
          T* row = feed + i * feed_stride;
          if (!first_fed)
            kernel.tanh_backward(row, data<T>(out.feeds) + ((first + i) * (steps + 1) + t) * in.feed, in.feed);
        }
        team.sync();
        if (!first_fed) {
          feed_c.apply(team, rows, feed, feed_stride, grad_contexts + (first * (steps + 1) + t) * in.context(),
                       (steps + 1) * in.context(), nullptr, true);
          feed_h.apply(team, rows, feed, feed_stride, grad_h, hidden, nullptr, true);
          team.sync();
        }
      }

      T* query =
          t == steps ? data<T>(made.last_query) + first * asked : data<T>(made.query) + (first * steps + t) * asked;
      int64_t query_stride = t == steps ? asked : steps * asked;
      for (int64_t i = attend_begin; i < attend_end; i++) {
        int64_t b = first + i / in.heads, n = i % in.heads, at = b * (steps + 1) + t;
        auto source = memory.source(b, n);
        T* score = scores + (at * in.heads + n) * in.source;
        const T* w = weights + (at * in.heads + n) * in.source;
        if (grad_weights)
          kernel.gather(grad_weights + (at * in.heads + n) * in.source, source.positions, source.count, score);
        else
          std::fill_n(score, source.count, T(0));
        kernel.values_dot(source, grad_contexts + at * in.context() + n * in.width, score);
        kernel.softmax_backward(w, source.positions, source.count, score);
        T* grad_query = query + (i / in.heads) * query_stride + n * in.attention;
        kernel.query_backward(source, queries + at * asked + n * in.attention, score, grad_query);
      }
      team.sync();
      query_weight.apply(team, rows, query, query_stride, grad_h, hidden, nullptr, true);
      team.sync();
    }
  });
}

// Gradients of keys, and of v as one part a row (B, N, A), for all steps at once.
template <class T>
void source_gradients(const Inputs& in, const Memory<T>& memory, const Tensor& queries, const Tensor& scores,
                      const Tensor& grad_keys, const Tensor& grad_v) {
  int64_t positions = in.steps + 1, asked = in.heads * in.attention;
  at::parallel_for(0, in.batch * in.heads, 1, [&](int64_t task_begin, int64_t task_end) {
    std::vector<T> scratch(in.attention);
    for (int64_t task = task_begin; task < task_end; task++) {
      int64_t b = task / in.heads, n = task % in.heads;
      Queries<T> q{
          .queries = data<T>(queries) + b * positions * asked + n * in.attention, .stride = asked, .count = positions};
      kernels<T>().keys_backward(memory.source(b, n), q, data<T>(scores) + (b * positions * in.heads + n) * in.source,
                                 in.heads * in.source, data<T>(grad_keys) + b * in.source * asked + n * in.attention,
                                 data<T>(grad_v) + task * in.attention, nullptr, scratch.data());
    }
  });
}

Tensor rows(const Tensor& x) { return x.reshape({x.size(0) * x.size(1), x.size(2)}); }

// h_0 .. h_{T-1} as (B * T, H).
Tensor previous_states(const Inputs& in, const Tensor& states) {
  if (in.steps == 0) return in.empty({0, in.hidden});
  return rows(at::cat({in.h0.unsqueeze(1), states.narrow(1, 0, in.steps - 1)}, 1));
}

// The sum of two gradients of one matrix: the steps before T, and T itself.
Tensor with_last(const Tensor& grad, const Tensor& from, const Tensor& last_grad, const Tensor& last_from) {
  return at::mm(grad.t(), from).addmm_(last_grad.t(), last_from);
}

}  // namespace

Tensors attention_recurrence_forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths,
                                     const OptionalTensor& mask, bool save) {
  Inputs in(gates, inputs, lengths, mask);
  Positions positions(in.batch, in.source, lengths, mask);
  bool has_cell = gates == kLstm;
  int64_t steps = in.steps;
  Outputs out;
  out.states = in.empty({in.batch, steps, in.hidden});
  out.contexts = in.empty({in.batch, steps + 1, in.context()});
  out.weights = in.empty(in.weights_shape());
  out.feeds = in.w_feed.defined() ? in.empty({in.batch, steps + 1, in.feed}) : nothing(in.x);
  out.h_n = in.empty({in.batch, in.hidden});
  out.c_n = in.empty({in.batch, in.hidden});
  out.gates = in.empty({in.batch, steps, 4 * in.hidden});
  out.cells = has_cell && save ? in.empty({in.batch, steps, in.hidden}) : nothing(in.x);
  out.queries = in.empty({in.batch, save ? steps + 1 : 1, in.heads * in.attention});
  hoist(gates, rows(out.gates), rows(in.x), in.weight_x(), in.bias_ih);
  dispatch(in.x, [&](auto zero) { forward<decltype(zero)>(gates, in, positions, out, save); });
  if (!save) out.gates = nothing(in.x), out.queries = nothing(in.x);
  // Backward reads what the loop computed, not its rounding to 16 bits.
  bool rounded = save && in.type != in.x.scalar_type();
  Tensors result;
  for (const Tensor& x : {out.states, out.contexts, out.weights, out.feeds, out.h_n}) result.push_back(x.to(in.type));
  if (has_cell) result.push_back(out.c_n.to(in.type));
  result.push_back(out.gates);
  if (has_cell) result.push_back(out.cells);
  result.push_back(out.queries);
  for (const Tensor& x : {out.states, out.contexts, out.weights, out.feeds})
    result.push_back(rounded ? x : nothing(in.x));
  return result;
}

Tensors attention_recurrence_backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                                      const OptionalTensor& lengths, const OptionalTensor& mask, at::TensorList outputs,
                                      const c10::List<bool>& needs) {
  Inputs in(gates, inputs, lengths, mask);
  Positions positions(in.batch, in.source, lengths, mask);
  bool has_cell = gates == kLstm, has_feed = in.w_feed.defined();
  int64_t steps = in.steps, asked = in.heads * in.attention;
  size_t exact = in.type == in.x.scalar_type() ? 0 : has_cell ? 9 : 7;
  Outputs out{.states = outputs[exact],
              .contexts = outputs[exact + 1],
              .weights = outputs[exact + 2],
              .feeds = outputs[exact + 3],
              .gates = outputs[has_cell ? 6 : 5],
              .cells = has_cell ? outputs[7] : Tensor(),
              .queries = outputs[has_cell ? 8 : 6]};
  Outputs grad{.states = to_compute(grads.get(0)), .weights = to_compute(grads.get(2))};
  // Gradients that the loop adds to begin as those that came in.
  auto begin_as = [&](const OptionalTensor& grad, at::IntArrayRef shape) {
    return given(grad) ? to_compute(*grad).clone() : in.zeros(shape);
  };
  OptionalTensor grad_feeds = has_feed ? grads.get(3) : std::nullopt;
  auto feeds_part = [&](int64_t t, int64_t n) {
    return given(grad_feeds) ? OptionalTensor(grad_feeds->narrow(1, t, n)) : std::nullopt;
  };
  Gradients made{.gates = in.empty({in.batch, steps, 4 * in.hidden}),
                 .query = in.empty({in.batch, steps, asked}),
                 .last_query = in.empty({in.batch, asked}),
                 .scores = in.empty({in.batch, steps + 1, in.heads, in.source}),
                 .contexts = begin_as(grads.get(1), {in.batch, steps + 1, in.context()}),
                 .h0 = begin_as(grads.get(4), {in.batch, in.hidden}),
                 .c0 = has_cell ? begin_as(grads.get(5), {in.batch, in.hidden}) : Tensor()};
  if (has_feed) {
    made.feed = begin_as(feeds_part(0, steps), {in.batch, steps, in.feed});
    made.last_feed = begin_as(feeds_part(steps, 1), {in.batch, 1, in.feed}).view({in.batch, in.feed});
  }
  if (in.first_feed.defined()) {
    made.first_feed = begin_as(feeds_part(0, 1), {in.batch, 1, in.feed}).view({in.batch, in.feed});
    // w_feed had no part in the first feed
    if (has_feed && steps > 0) made.feed.select(1, 0).zero_();
    if (has_feed && steps == 0) made.last_feed.zero_();
  }
  Tensor grad_keys = in.zeros(in.keys.sizes()), grad_v = in.zeros({in.batch, in.heads, in.attention});
  dispatch(in.x, [&](auto zero) {
    using T = decltype(zero);
    Memory<T> memory(in.keys, in.values, in.v, positions);
    backward<T>(gates, in, memory, out, grad, made);
    source_gradients<T>(in, memory, out.queries, made.scores, grad_keys, grad_v);
  });

  Tensors result;
  size_t i = 0;
  auto give = [&](auto make) { result.push_back(needs.get(i++) ? make().to(in.type) : nothing(in.x).to(in.type)); };
  Tensor grad_gates = rows(made.gates), grad_gates_x = columns(grad_gates, 0, gates * in.hidden);
  Tensor h_last = steps ? out.states.select(1, steps - 1) : in.h0, context_last = out.contexts.select(1, steps);
  Tensor h_before = previous_states(in, out.states);
  give([&] { return at::mm(grad_gates_x, in.weight_x()).view(in.x.sizes()); });
  give([&] { return made.h0; });
  if (has_cell) give([&] { return made.c0; });
  give([&] { return in.v_shape.size() == 2 ? grad_keys : grad_keys.squeeze(2); });
  give([&] {
    int64_t all = (steps + 1) * in.heads;
    return at::bmm(out.weights.view({in.batch, all, in.source}).transpose(1, 2),
                   made.contexts.view({in.batch, all, in.width}));
  });
  give([&] { return grad_v.sum(0).view(in.v_shape); });
  give([&] { return with_last(rows(made.query), h_before, made.last_query, h_last); });
  give([&] { return made.query.sum(at::IntArrayRef({0, 1})).add_(made.last_query.sum(0)); });
  give([&] {
    Tensor weight = in.empty(in.weight_ih.sizes());
    Tensor fed = (has_feed ? out.feeds : out.contexts).narrow(1, 0, steps);
    if (in.first_feed.defined() && steps > 0)
      fed = at::cat({in.first_feed.unsqueeze(1), fed.narrow(1, 1, steps - 1)}, 1);
    product(columns(weight, 0, in.inputs), grad_gates_x.t(), rows(in.x));
    product(columns(weight, in.inputs, in.inputs + in.feed), grad_gates_x.t(), rows(fed));
    return weight;
  });
  give([&] { return weight_hh_gradient(gates, grad_gates, h_before); });
  bool bias = needs.get(i) || needs.get(i + 1);
  auto [grad_bias_ih, grad_bias_hh] = bias ? bias_gradients(gates, grad_gates) : std::pair<Tensor, Tensor>();
  give([&] { return grad_bias_ih; });
  give([&] { return grad_bias_hh; });
  give([&] {
    Tensor weight = in.empty(in.w_feed.sizes());
    Tensor before = rows(out.contexts.narrow(1, 0, steps));
    columns(weight, 0, in.hidden).copy_(with_last(rows(made.feed), h_before, made.last_feed, h_last));
    columns(weight, in.hidden, in.hidden + in.context())
        .copy_(with_last(rows(made.feed), before, made.last_feed, context_last));
    return weight;
  });
  give([&] { return made.feed.sum(at::IntArrayRef({0, 1})).add_(made.last_feed.sum(0)); });
  give([&] { return made.first_feed; });
  return result;
}

}  // namespace s2s::cpu
