// The attention decoder, forward. Step t attends with h_t, makes the feed f_t, and runs the cell to h_{t+1}; x's part
// of the gates is one product before the loop.
#include "attention_inputs.h"
#include "attention_recurrence.h"

namespace s2s::cpu {

namespace {

template <class T, class E>
void forward(int64_t gates, const AttentionInputs& in, const Positions& positions, AttentionOutputs& out, bool save) {
  int64_t hidden = in.hidden, steps = in.steps, wide = gates * hidden, asked = in.heads * in.attention;
  auto query_weight = Packed<T>::transposed(in.w_query, in.pairs()),
       hidden_weight = Packed<T>::transposed(in.weight_hh, in.pairs());
  auto feed_weight = Packed<T>::transposed(in.weight_feed(), in.pairs());
  bool has_cell = gates == kLstm, has_feed = in.w_feed.defined();
  Packed<T> feed_h, feed_c;
  if (has_feed)
    feed_h = Packed<T>::transposed(in.feed_h(), in.pairs()), feed_c = Packed<T>::transposed(in.feed_c(), in.pairs());
  Memory<T, E> memory(in.keys, in.values, in.v, positions);
  CellKernels<T> cell(gates);
  const auto& kernel = kernels<T>();
  const auto& attend = source_kernels<T, E>();
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
        attend.scores(source, queries + (b * query_rows + query_t) * asked + n * in.attention, w);
        kernel.softmax(w, source.positions, source.count, nullptr);
        make_context(source, w, contexts + (b * (steps + 1) + t) * in.context() + n * in.width);
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

}  // namespace

Tensors attention_recurrence_forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths,
                                     const OptionalTensor& mask, bool save) {
  AttentionInputs in(gates, inputs, lengths, mask);
  Positions positions(in.batch, in.source, lengths, mask);
  bool has_cell = gates == kLstm;
  int64_t steps = in.steps;
  AttentionOutputs out;
  out.states = in.empty({in.batch, steps, in.hidden});
  out.contexts = in.empty({in.batch, steps + 1, in.context()});
  out.weights = in.empty(in.weights_shape());
  out.feeds = in.w_feed.defined() ? in.empty({in.batch, steps + 1, in.feed}) : nothing(in.x);
  out.h_n = in.empty({in.batch, in.hidden});
  out.c_n = in.empty({in.batch, in.hidden});
  out.gates = in.empty({in.batch, steps, 4 * in.hidden});
  out.cells = has_cell && save ? in.empty({in.batch, steps, in.hidden}) : nothing(in.x);
  out.queries = in.empty({in.batch, save ? steps + 1 : 1, in.heads * in.attention});
  dispatch_memory(in.keys, [&](auto zero, auto element) {
    using T = decltype(zero);
    hoist<T>(in.x, in.weight_x(), in.bias_ih, out.gates, in.pairs());
    forward<T, decltype(element)>(gates, in, positions, out, save);
  });
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

}  // namespace s2s::cpu
