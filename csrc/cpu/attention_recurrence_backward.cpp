// The attention decoder, backward. The loop goes back over the steps with only what the step before needs on its way
// (the gradients of h, the feed and the query) and those of keys and v, which come of the same tanh as the query's. The
// gradients of all weights, x and values are products over many steps at once: those of the values, of which each row
// of the batch has its own, by the threads that ran the row. Steps go in chunks, so that what the products read takes
// little memory.
#include "attention_inputs.h"
#include "attention_recurrence.h"

namespace s2s::cpu {

namespace {

constexpr int64_t kChunkRows = 1024;  // rows of the batch times steps: deep enough for products at full speed
constexpr int64_t kRowsAtOnce = 12;   // rows of C that a product's kernel makes at once

// What the loop leaves of steps first .. first + asks of 0..T for the products; a cell follows each step but T.
struct Chunk {
  int64_t first, asks, cells;
  Tensor gates;     // (B, cells, 4H), rows apart
  Tensor queries;   // (B, asks, N * A), rows apart
  Tensor contexts;  // (B, asks, N * D)
  Tensor feeds;     // (B, asks, F), rows apart, of the sum under tanh; undefined without w_feed
};

struct Carried {
  Tensor h, c;        // (B, H): in and out of the loop, at last the initial state's
  Tensor first_feed;  // (B, F), if it was given
  Tensor keys, v;     // (B, S, N, A), and a part a row of the batch: (B, N, A)
  Tensor values;      // (B, S, D), if it is wanted: written by the last steps' chunk, and then added to
};

template <class T>
struct Weights {
  Packed<T> query, hidden, feed, feed_h, feed_c;

  explicit Weights(const AttentionInputs& in)
      : query(Packed<T>::straight(in.w_query, in.pairs())),
        hidden(Packed<T>::straight(in.weight_hh, in.pairs())),
        feed(Packed<T>::straight(in.weight_feed(), in.pairs())) {
    if (!in.w_feed.defined()) return;
    feed_h = Packed<T>::straight(in.feed_h(), in.pairs());
    feed_c = Packed<T>::straight(in.feed_c(), in.pairs());
  }
};

// The gradient of one row's values (S, D): the sum of weights (count, S) times the gradients of contexts (count, D), or
// += it. Each thread of the team makes its part of the columns.
template <class T>
void values_gradient(const Team& team, const AttentionInputs& in, const T* weights, const T* grad_contexts,
                     int64_t count, T* grad_values, bool accumulate) {
  const auto& kernel = kernels<T>();
  constexpr int64_t deepest = products::kDepthOfGradients;
  int64_t panel = kernel.panel;
  auto [first, last] = team.part((in.width + panel - 1) / panel);
  int64_t begin = first * panel, end = std::min(last * panel, in.width);
  if (count == 0 && !accumulate)  // no heads
    for (int64_t row = 0; row < in.source; row++)
      std::fill(grad_values + row * in.width + begin, grad_values + row * in.width + end, T(0));
  thread_local std::vector<T> packed;
  packed.resize(deepest * (last - first) * panel);
  for (int64_t p = 0; p < count; p += deepest) {
    int64_t depth = std::min(deepest, count - p);
    for (int64_t column = begin; column < end; column += panel)
      kernel.pack(grad_contexts + p * in.width + column, in.width, 1, depth, std::min(panel, end - column),
                  packed.data() + (column - begin) * depth);
    // A few rows at a time, each read and written from end to end.
    int64_t parts = (in.source + kRowsAtOnce - 1) / kRowsAtOnce;
    for (int64_t part = 0; part < parts; part++) {
      auto [row, next] = split(in.source, parts, part);
      kernel.gemm_transposed(next - row, end - begin, depth, weights + p * in.source + row, in.source, packed.data(),
                             grad_values + row * in.width + begin, in.width, nullptr, p > 0 || accumulate);
    }
  }
}

template <class T, class E>
void loop(int64_t gates, const AttentionInputs& in, const Memory<T, E>& memory, const Weights<T>& weight,
          const AttentionOutputs& out, const AttentionOutputs& grad, const Carried& carried, const Chunk& chunk) {
  int64_t hidden = in.hidden, steps = in.steps, wide = gates * hidden, asked = in.heads * in.attention;
  int64_t asks = chunk.asks, cells = chunk.cells;
  bool has_cell = gates == kLstm, has_feed = in.w_feed.defined();
  CellKernels<T> cell(gates);
  const auto& kernel = kernels<T>();
  const auto& attend = source_kernels<T, E>();
  Tensor gates_buffer = rows_apart(in.x, {in.batch, wide});
  int64_t gates_stride = gates_buffer.stride(0), saved_stride = chunk.gates.stride(1);
  int64_t query_stride = chunk.queries.stride(1), feeds_stride = has_feed ? chunk.feeds.stride(1) : in.context();
  const T *weights = data<T>(out.weights), *queries = data<T>(out.queries), *grad_weights = data<T>(grad.weights);

  run_teams(in.batch, 2 * in.step_work(gates) * asks, [&](int64_t group, int64_t groups, const Team& team) {
    auto [first, last] = split(in.batch, groups, group);
    int64_t rows = last - first;
    auto [begin, end] = team.part(hidden);
    auto [attend_begin, attend_end] = team.part(rows * in.heads);
    auto [feed_begin, feed_end] = team.part(rows);
    T* gates_h = data<T>(gates_buffer) + first * gates_stride;
    T* grad_h = data<T>(carried.h) + first * hidden;
    T* grad_c = has_cell ? data<T>(carried.c) + first * hidden : nullptr;
    std::vector<T> score(in.source), grad_v(in.attention);
    auto begin_rows = [&](T* to, int64_t stride, const Tensor& from, int64_t width, int64_t t) {
      for (int64_t row = feed_begin; row < feed_end; row++)
        copy_or_zero(to + row * stride, from, ((first + row) * (steps + 1) + t) * width, width);
    };

    for (int64_t i = asks - 1; i >= 0; i--) {
      int64_t t = chunk.first + i;
      bool first_fed = t == 0 && in.first_feed.defined();  // the feed of this step was the caller's
      T* grad_context = data<T>(chunk.contexts) + (first * asks + i) * in.context();
      begin_rows(grad_context, asks * in.context(), grad.contexts, in.context(), t);
      if (has_feed)  // zeros where it was the caller's, in which w_feed had no part
        begin_rows(data<T>(chunk.feeds) + (first * asks + i) * feeds_stride, asks * feeds_stride,
                   first_fed ? Tensor() : grad.feeds, in.feed, t);
      // Gradient of this step's feed, under tanh where there is one.
      T* feed = first_fed  ? data<T>(carried.first_feed) + first * in.feed
                : has_feed ? data<T>(chunk.feeds) + (first * asks + i) * feeds_stride
                           : grad_context;
      int64_t feed_stride = first_fed ? in.feed : asks * feeds_stride;
      if (t < steps) {
        T* grad_gates = data<T>(chunk.gates) + (first * cells + i) * saved_stride;
        for (int64_t row = 0; row < rows; row++) {
          int64_t b = first + row, at = b * steps + t;
          T* grad_state = grad_h + row * hidden;
          if (grad.states.defined())
            kernel.add(grad_state + begin, data<T>(grad.states) + at * hidden + begin, end - begin);
          const T* h = t == 0 ? data<T>(in.h0) + b * hidden : data<T>(out.states) + (at - 1) * hidden;
          const T* c = !has_cell ? nullptr
                       : t == 0  ? data<T>(in.c0) + b * hidden
                                 : data<T>(out.cells) + (at - 1) * hidden;
          cell.backward(data<T>(out.gates) + at * 4 * hidden, h, c,
                        has_cell ? data<T>(out.cells) + at * hidden : nullptr, grad_state,
                        has_cell ? grad_c + row * hidden : nullptr, grad_gates + row * cells * saved_stride,
                        gates_h + row * gates_stride, hidden, begin, end);
        }
        team.sync();
        weight.feed.apply(team, rows, grad_gates, cells * saved_stride, feed, feed_stride, nullptr, true);
        weight.hidden.apply(team, rows, gates_h, gates_stride, grad_h, hidden, nullptr, true);
      }
      team.sync();
      if (has_feed && !first_fed) {
        for (int64_t row = feed_begin; row < feed_end; row++)
          kernel.tanh_backward(feed + row * feed_stride,
                               data<T>(out.feeds) + ((first + row) * (steps + 1) + t) * in.feed, in.feed);
        team.sync();
        weight.feed_c.apply(team, rows, feed, feed_stride, grad_context, asks * in.context(), nullptr, true);
        weight.feed_h.apply(team, rows, feed, feed_stride, grad_h, hidden, nullptr, true);
        team.sync();
      }

      T* query = data<T>(chunk.queries) + (first * asks + i) * query_stride;
      for (int64_t task = attend_begin; task < attend_end; task++) {
        int64_t row = task / in.heads, n = task % in.heads, at = (first + row) * (steps + 1) + t;
        auto source = memory.source(first + row, n);
        if (grad_weights)
          kernel.gather(grad_weights + (at * in.heads + n) * in.source, source.positions, source.count, score.data());
        else
          std::fill_n(score.begin(), source.count, T(0));
        attend.values_dot(source, grad_context + row * asks * in.context() + n * in.width, score.data());
        kernel.softmax_backward(weights + (at * in.heads + n) * in.source, source.positions, source.count,
                                score.data());
        // v's gradient of a step is summed by itself first: one long sum would lose digits.
        std::fill(grad_v.begin(), grad_v.end(), T(0));
        query_backward(source, queries + at * asked + n * in.attention, score.data(),
                       query + row * asks * query_stride + n * in.attention,
                       data<T>(carried.keys) + (first + row) * in.source * asked + n * in.attention, grad_v.data());
        kernel.add(data<T>(carried.v) + ((first + row) * in.heads + n) * in.attention, grad_v.data(), in.attention);
      }
      team.sync();
      weight.query.apply(team, rows, query, asks * query_stride, grad_h, hidden, nullptr, true);
      team.sync();
    }
    if (carried.values.defined())
      for (int64_t b = first; b < last; b++)
        values_gradient(team, in, weights + (b * (steps + 1) + chunk.first) * in.heads * in.source,
                        data<T>(chunk.contexts) + b * asks * in.context(), asks * in.heads,
                        data<T>(carried.values) + b * in.source * in.width, chunk.first + asks <= steps);
  });
}

// The gradients of the inputs, one a needed input, undefined otherwise.
struct Results {
  Tensor x, w_query, b_query, weight_ih, weight_hh, gates, w_feed, b_feed;
};

// The products of one chunk: x's written, the others written by the first chunk, the last steps', and then added to.
template <class T>
void products_of(int64_t gates, const AttentionInputs& in, const AttentionOutputs& out, const Chunk& chunk,
                 const Results& results) {
  int64_t wide = gates * in.hidden, steps = in.steps;
  bool add = chunk.first + chunk.asks <= steps;
  // Row (b, i) of what step first + i read, for i of 0..count.
  auto rows = [&](int64_t count, const auto& row) {
    RowPointers<T> pointers;
    pointers.reserve(in.batch * count);
    for (int64_t b = 0; b < in.batch; b++)
      for (int64_t i = 0; i < count; i++) pointers.push_back(row(b, chunk.first + i));
    return pointers;
  };
  auto state = [&](int64_t b, int64_t t) -> const T* {
    return t == 0 ? data<T>(in.h0) + b * in.hidden : data<T>(out.states) + (b * steps + t - 1) * in.hidden;
  };
  auto context = [&](int64_t b, int64_t t) -> const T* {
    return data<T>(out.contexts) + (b * (steps + 1) + t) * in.context();
  };
  auto fed = [&](int64_t b, int64_t t) -> const T* {
    if (t == 0 && in.first_feed.defined()) return data<T>(in.first_feed) + b * in.feed;
    return in.w_feed.defined() ? data<T>(out.feeds) + (b * (steps + 1) + t) * in.feed : context(b, t);
  };
  auto input = [&](int64_t b, int64_t t) -> const T* { return data<T>(in.x) + (b * steps + t) * in.inputs; };
  auto all = RowBlocks<const T>::of;

  if (results.x.defined())
    product(all(chunk.gates), in.weight_ih.narrow(1, 0, in.inputs).narrow(0, 0, wide),
            RowBlocks<T>::of(results.x.narrow(1, chunk.first, chunk.cells)), in.pairs());
  if (results.weight_ih.defined()) {
    outer_products(all(chunk.gates), rows(chunk.cells, input), columns(results.weight_ih, 0, in.inputs), in.pairs(),
                   add);
    outer_products(all(chunk.gates), rows(chunk.cells, fed), columns(results.weight_ih, in.inputs, in.inputs + in.feed),
                   in.pairs(), add);
  }
  if (results.weight_hh.defined())
    weight_hh_gradient(gates, all(chunk.gates), rows(chunk.cells, state), results.weight_hh, in.pairs(), add);
  if (results.gates.defined()) results.gates.add_(chunk.gates.sum(at::IntArrayRef({0, 1})));
  if (results.w_query.defined())
    outer_products(all(chunk.queries), rows(chunk.asks, state), results.w_query, in.pairs(), add);
  if (results.b_query.defined()) results.b_query.add_(chunk.queries.sum(at::IntArrayRef({0, 1})));
  if (results.w_feed.defined()) {
    outer_products(all(chunk.feeds), rows(chunk.asks, state), columns(results.w_feed, 0, in.hidden), in.pairs(), add);
    outer_products(all(chunk.feeds), rows(chunk.asks, context),
                   columns(results.w_feed, in.hidden, in.hidden + in.context()), in.pairs(), add);
  }
  if (results.b_feed.defined()) results.b_feed.add_(chunk.feeds.sum(at::IntArrayRef({0, 1})));
}

}  // namespace

Tensors attention_recurrence_backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                                      const OptionalTensor& lengths, const OptionalTensor& mask, at::TensorList outputs,
                                      const c10::List<bool>& needs) {
  AttentionInputs in(gates, inputs, lengths, mask);
  in.check_backward(grads, outputs, needs);
  Positions positions(in.batch, in.source, lengths, mask);
  bool has_cell = gates == kLstm, has_feed = in.w_feed.defined(), has_first = in.first_feed.defined();
  int64_t steps = in.steps, asked = in.heads * in.attention;
  size_t exact = in.type == in.x.scalar_type() ? 0 : has_cell ? 9 : 7;
  AttentionOutputs out{.states = outputs[exact],
                       .contexts = outputs[exact + 1],
                       .weights = outputs[exact + 2],
                       .feeds = outputs[exact + 3],
                       .gates = outputs[has_cell ? 6 : 5],
                       .cells = has_cell ? outputs[7] : Tensor(),
                       .queries = outputs[has_cell ? 8 : 6]};
  AttentionOutputs grad{.states = to_compute(grads.get(0)),
                        .contexts = to_compute(grads.get(1)),
                        .weights = to_compute(grads.get(2)),
                        .feeds = has_feed ? to_compute(grads.get(3)) : Tensor()};
  Carried carried{.h = begin_as(grads.get(4), in.empty({in.batch, in.hidden})),
                  .c = has_cell ? begin_as(grads.get(5), in.empty({in.batch, in.hidden})) : Tensor(),
                  .keys = in.zeros(in.keys.sizes()),
                  .v = in.zeros({in.batch, in.heads, in.attention})};
  if (has_first)
    carried.first_feed =
        begin_as(grad.feeds.defined() ? grad.feeds.select(1, 0) : Tensor(), in.empty({in.batch, in.feed}));

  // The order of the inputs.
  enum {
    kX,
    kH0,
    kC0,
    kKeys,
    kValues,
    kV,
    kWQuery,
    kBQuery,
    kWeightIh,
    kWeightHh,
    kBiasIh,
    kBiasHh,
    kWFeed,
    kBFeed,
    kFirstFeed
  };
  auto needed = [&](int which) { return needs.get(which - (which > kC0 && !has_cell)); };
  auto zeros = [&](int which, at::IntArrayRef shape) { return needed(which) ? in.zeros(shape) : Tensor(); };
  auto empty = [&](int which, const Tensor& like) { return needed(which) ? in.empty(like.sizes()) : Tensor(); };
  carried.values = empty(kValues, in.values);
  Results results{.x = empty(kX, in.x),
                  .w_query = empty(kWQuery, in.w_query),
                  .b_query = zeros(kBQuery, {asked}),
                  .weight_ih = empty(kWeightIh, in.weight_ih),
                  .weight_hh = empty(kWeightHh, in.weight_hh),
                  .gates = needed(kBiasIh) || needed(kBiasHh) ? in.zeros({4 * in.hidden}) : Tensor(),
                  .w_feed = has_feed ? empty(kWFeed, in.w_feed) : Tensor(),
                  .b_feed = zeros(kBFeed, {in.feed})};
  dispatch_memory(in.keys, [&](auto zero, auto element) {
    using T = decltype(zero);
    using E = decltype(element);
    Memory<T, E> memory(in.keys, in.values, in.v, positions);
    Weights<T> weights(in);
    int64_t chunk_steps = std::max<int64_t>(1, kChunkRows / std::max<int64_t>(in.batch, 1));
    int64_t chunks = (steps + chunk_steps) / chunk_steps;  // as even as can be
    for (int64_t i = chunks - 1; i >= 0; i--) {
      auto [first, end] = split(steps + 1, chunks, i);
      int64_t asks = end - first, cells = std::min(end, steps) - first;
      Chunk chunk{.first = first,
                  .asks = asks,
                  .cells = cells,
                  .gates = rows_apart(in.x, {in.batch, cells, 4 * in.hidden}),
                  .queries = rows_apart(in.x, {in.batch, asks, asked}),
                  .contexts = in.empty({in.batch, asks, in.context()})};
      if (has_feed) chunk.feeds = rows_apart(in.x, {in.batch, asks, in.feed});
      loop<T, E>(gates, in, memory, weights, out, grad, carried, chunk);
      products_of<T>(gates, in, out, chunk, results);
    }
  });

  auto [bias_ih, bias_hh] = bias_gradients(gates, results.gates);
  Tensor all[] = {results.x,         carried.h,
                  carried.c,         in.v_shape.size() == 2 ? carried.keys : carried.keys.squeeze(2),
                  carried.values,    carried.v.sum(0).view(in.v_shape),
                  results.w_query,   results.b_query,
                  results.weight_ih, results.weight_hh,
                  bias_ih,           bias_hh,
                  results.w_feed,    results.b_feed,
                  carried.first_feed};
  Tensors given_back;
  for (int which = kX; which <= kFirstFeed; which++) {
    if (which == kC0 && !has_cell) continue;
    bool need = needs.get(given_back.size());
    given_back.push_back((need ? all[which] : nothing(in.x)).to(in.type));
  }
  return given_back;
}

}  // namespace s2s::cpu
