// The attention decoder with its parts, forward. Step t attends with h_t, makes the feed f_t, and runs the layers of
// cells to h_{t+1}; with a transition it attends with what the first cell made, and the second is fed. x's part of the
// first layer's gates is one product before the loop.
#include "loop.h"

namespace s2s::cpu {

namespace decoder {

namespace {

template <class T>
struct Weights {
  Packed<T> query, feed, feed_h, feed_c;
  std::vector<Packed<T>> hidden, input;  // of each layer; the first has no input but x and the feed

  explicit Weights(const Inputs& in) : feed(Packed<T>::transposed(in.weight_feed(), in.pairs())) {
    if (in.w_query.defined()) query = Packed<T>::transposed(in.w_query, in.pairs());
    for (int64_t l = 0; l < in.depth(); l++) {
      hidden.push_back(Packed<T>::transposed(in.layers[l].weight_hh, in.pairs()));
      input.push_back(l && !in.transition ? Packed<T>::transposed(in.layers[l].weight_ih, in.pairs()) : Packed<T>());
    }
    if (!in.has_feed()) return;
    feed_h = Packed<T>::transposed(in.gated() ? in.w_feed : in.feed_h(), in.pairs());
    if (!in.gated()) feed_c = Packed<T>::transposed(in.feed_c(), in.pairs());
  }
};

// What a step needs and no later one reads.
struct Buffers {
  Tensor gates;         // (L, B, G H): of h
  Tensor asking;        // (B, H or 2H): what the query is made of, where it is not h itself
  Tensor attended;      // (B, H + N D): what w_feed reads, dropped out
  Tensor fed, between;  // (B, F), (B, H): what a layer reads, dropped out
  Tensor sum;           // (B, S): all weights so far

  explicit Buffers(const Inputs& in) : gates(in.empty({in.depth(), in.batch, in.wide()})) {
    if (in.drop_query.defined() || in.query == Query::kCH) asking = in.empty({in.batch, in.asking()});
    if (in.drop_attended.defined()) attended = in.empty({in.batch, in.attended()});
    if (in.drop_fed.defined()) fed = in.empty({in.batch, in.feed});
    if (in.drop_layers.defined()) between = in.empty({in.batch, in.hidden});
    if (in.sums()) sum = in.first_weights.defined() ? in.first_weights.clone() : in.zeros({in.batch, in.source});
  }
};

template <class T, class E>
void run(const Inputs& in, const Positions& positions, const Tensors& out, const States<T>& states, bool save) {
  int64_t hidden = in.hidden, steps = in.steps, wide = in.wide(), asked = in.asked(), depth = in.depth();
  Weights<T> weight(in);
  Buffers buffers(in);
  Attention<T, E> attention(in, positions);
  CellKernels<T> cell(in.gates);
  const auto& kernel = kernels<T>();
  const Tensor &contexts = out[kContexts], &feeds = out[kFeeds];
  T *weights = data<T>(out[kWeights]), *sums = data<T>(buffers.sum), *parts = save ? data<T>(out[kParts]) : nullptr;
  const T *drop_weights = data<T>(in.drop_weights), *first_weights = data<T>(in.first_weights);

  run_teams(in.batch, in.step_work() * steps, [&](int64_t group, int64_t groups, const Team& team) {
    auto [first, last] = split(in.batch, groups, group);
    int64_t rows = last - first;
    auto [begin, end] = team.part(hidden);
    auto [attend_begin, attend_end] = team.part(rows * in.heads);
    auto [row_begin, row_end] = team.part(rows);
    Scratch<T> scratch;
    Buffer<T> rest(in.source);  // parts that nobody keeps
    auto buffer = [&](const Tensor& x) { return Rows<T>{data<T>(x) + first * x.size(-1), x.size(-1)}; };
    auto gates_of = [&](int64_t l) { return Rows<T>{data<T>(buffers.gates) + (l * in.batch + first) * wide, wide}; };
    auto mask = [&](const Tensor& x, int64_t t) { return step_rows<const T>(x, first, t); };
    // Layer l at step t, once its gates have been made.
    auto run_cell = [&](int64_t l, int64_t t) {
      team.sync();
      auto gates_x = layer_rows<T>(out[kGates], l, first, t), gates_h = gates_of(l);
      auto before = states.before(l, first, t), after = states.after(l, first, t);
      auto c = in.has_cell() ? states.c_before(l, first, t) : Rows<T>{nullptr, 0};
      auto made = layer_rows<T>(states.cells, l, first, t);
      auto carried = in.carries_c() ? layer_rows<T>(states.carried, l, first, t) : Rows<T>{nullptr, 0};
      auto drop_h = layer_rows<const T>(in.drop_h, l, first, t), zone_h = layer_rows<const T>(in.zone_h, l, first, t);
      auto drop_c = layer_rows<const T>(in.drop_c, l, first, t), zone_c = layer_rows<const T>(in.zone_c, l, first, t);
      for (int64_t i = 0; i < rows; i++) {
        cell.forward(gates_x[i], gates_h[i], before[i], c.first ? c[i] : nullptr, after[i],
                     made.first ? made[i] : nullptr, save ? gates_x[i] : nullptr, hidden, begin, end);
        if (carried.first)
          carry(carried[i], made[i], c[i], drop_c.first ? drop_c[i] : nullptr, zone_c.first ? zone_c[i] : nullptr,
                begin, end);
        if (drop_h.first || zone_h.first)
          carry(after[i], after[i], before[i], drop_h.first ? drop_h[i] : nullptr, zone_h.first ? zone_h[i] : nullptr,
                begin, end);
      }
      team.sync();
    };
    auto state_gates = [&](int64_t l, Rows<T> from) {
      weight.hidden[l].apply(team, rows, from.first, from.stride, gates_of(l).first, wide,
                             data<T>(in.layers[l].bias_hh), false);
    };

    for (int64_t t = 0; t <= steps; t++) {
      auto h = states.asking(first, t);
      // Without `save` there are queries of one step alone.
      Rows<T> query = step_rows<T>(out[kQueries], first, save ? t : 0), source = h;
      auto feed = in.has_feed() ? step_rows<T>(feeds, first, t) : Rows<T>{nullptr, 0};
      auto context = step_rows<T>(contexts, first, t);
      auto drop_attended = mask(in.drop_attended, t);
      bool first_fed = t == 0 && in.has_first();

      if (buffers.asking.defined()) {
        source = buffer(buffers.asking);
        auto drop = mask(in.drop_query, t);
        for (int64_t i = row_begin; i < row_end; i++) {
          T* to = source[i];
          if (in.query == Query::kCH) {
            std::copy_n(states.c_asking(first, t)[i], hidden, to);
            std::copy_n(h[i], hidden, to + hidden);
          } else {
            std::copy_n(h[i], hidden, to);
          }
          if (drop.first) multiply(to, to, drop[i], in.asking());
        }
      }
      Rows<T> read = h;  // what w_feed reads of h
      if (drop_attended.first) {
        read = buffer(buffers.attended);
        for (int64_t i = row_begin; i < row_end; i++) multiply(read[i], h[i], drop_attended[i], hidden);
      }
      if (buffers.asking.defined() || drop_attended.first) team.sync();

      if (in.w_query.defined())
        weight.query.apply(team, rows, source.first, source.stride, query.first, query.stride, data<T>(in.b_query),
                           false);
      else
        for (int64_t i = row_begin; i < row_end; i++) std::copy_n(source[i], asked, query[i]);
      if (in.transition) {
        if (t > 0) state_gates(1, h);
      } else {
        for (int64_t l = 0; l < depth && t < steps; l++) state_gates(l, states.before(l, first, t));
      }
      if (in.has_feed())
        weight.feed_h.apply(team, rows, read.first, read.stride, feed.first, feed.stride, data<T>(in.b_feed), false);
      team.sync();

      for (int64_t i = attend_begin; i < attend_end; i++) {
        int64_t b = first + i / in.heads, n = i % in.heads, at = (b * (steps + 1) + t) * in.heads + n;
        T* sum = further(sums, b * in.source);
        T* w = weights + at * in.source;
        // With a history there is one head.
        auto history =
            history_of<T>(in, t, weights + b * (steps + 1) * in.source, sum, further(first_weights, b * in.source));
        attention.forward(b, n, query[i / in.heads] + n * in.attention, history, further(drop_weights, at * in.source),
                          w, parts ? parts + at * in.source : rest.data(), context[i / in.heads] + n * in.width,
                          scratch);
        if (sum && t >= in.first_counted()) kernel.add(sum, w, in.source);
      }
      team.sync();

      if (in.has_feed()) {
        if (!in.gated()) {
          Rows<T> attended = context;
          if (drop_attended.first) {
            auto to = buffer(buffers.attended);
            attended = {to.first + hidden, to.stride};
            for (int64_t i = row_begin; i < row_end; i++)
              multiply(attended[i], context[i], drop_attended[i] + hidden, in.context());
            team.sync();
          }
          weight.feed_c.apply(team, rows, attended.first, attended.stride, feed.first, feed.stride, nullptr, true);
          team.sync();
        }
        auto gate = save && in.gated() ? step_rows<T>(out[kGate], first, t) : Rows<T>{nullptr, 0};
        for (int64_t i = row_begin; i < row_end; i++) {
          if (in.gated()) {
            for (int64_t j = 0; j < in.feed; j++) {
              T open = math::sigmoid(feed[i][j]);
              if (gate.first) gate[i][j] = open;
              feed[i][j] = open * context[i][j];
            }
          } else if (in.feed_form == Feed::kTanh) {
            kernel.tanh_rows(feed[i], in.feed);
          }
          if (first_fed) std::copy_n(data<T>(in.first_feed) + (first + i) * in.feed, in.feed, feed[i]);
        }
        team.sync();
      }
      int64_t reader = in.transition ? t - 1 : t;  // the step whose cell reads this feed
      if (reader == steps) break;

      Rows<T> fed = in.has_feed() ? feed : context;
      if (first_fed) fed = {data<T>(in.first_feed) + first * in.feed, in.feed};
      if (buffers.fed.defined() && reader >= 0) {
        auto drop = mask(in.drop_fed, reader);
        auto to = buffer(buffers.fed);
        for (int64_t i = row_begin; i < row_end; i++) multiply(to[i], fed[i], drop[i], in.feed);
        fed = to;
        team.sync();
      }
      if (in.transition) {
        if (t > 0) {
          auto gates_x = layer_rows<T>(out[kGates], 1, first, reader);
          weight.feed.apply(team, rows, fed.first, fed.stride, gates_x.first, gates_x.stride,
                            data<T>(in.layers[1].bias_ih), false);
          run_cell(1, reader);
        }
        if (t == steps) break;
        state_gates(0, states.before(0, first, t));
        run_cell(0, t);
        continue;
      }
      for (int64_t l = 0; l < depth; l++) {
        auto gates_x = layer_rows<T>(out[kGates], l, first, t);
        if (l == 0) {
          weight.feed.apply(team, rows, fed.first, fed.stride, gates_x.first, gates_x.stride, nullptr, true);
        } else {
          Rows<T> below = states.after(l - 1, first, t);
          if (buffers.between.defined()) {
            auto drop = layer_rows<const T>(in.drop_layers, l - 1, first, t);
            auto to = buffer(buffers.between);
            for (int64_t i = row_begin; i < row_end; i++) multiply(to[i], below[i], drop[i], hidden);
            below = to;
            team.sync();
          }
          weight.input[l].apply(team, rows, below.first, below.stride, gates_x.first, gates_x.stride,
                                data<T>(in.layers[l].bias_ih), false);
        }
        run_cell(l, t);
      }
    }
    for (int64_t l = 0; l < in.levels(); l++)
      for (int64_t i = row_begin; i < row_end; i++) {
        int64_t at = (l * in.batch + first + i) * hidden;
        std::copy_n(states.before(l, first, steps)[i], hidden, data<T>(out[kHN]) + at);
        if (in.has_cell()) std::copy_n(states.c_before(l, first, steps)[i], hidden, data<T>(out[kCN]) + at);
      }
  });
}

}  // namespace

Tensors forward(Inputs& in, const OptionalTensor& lengths, const OptionalTensor& mask, bool save) {
  Positions positions(in.batch, in.source, lengths, mask);
  Tensors out(kOutputs);
  for (int which = 0; which < kOutputs; which++)
    if (in.applies(which, save) && which < kExactStates) out[which] = in.empty(in.output_shape(which, save));
  // What the loop needs whether or not backward will read it.
  auto make = [&](int which, std::vector<int64_t> shape) { return save ? out[which] : in.empty(shape); };
  std::vector<int64_t> states = {in.depth(), in.batch, in.steps, in.hidden};
  Tensor gates = make(kGates, {in.depth(), in.batch, in.steps, 4 * in.hidden});
  Tensor cells = in.has_cell() ? make(kCells, states) : Tensor();
  Tensor carried = in.carries_c() ? make(kCarried, states) : cells;
  Tensor lower = in.depth() > 1 ? make(kLower, {in.depth() - 1, in.batch, in.steps, in.hidden}) : Tensor();
  Tensors loop = out;
  loop[kGates] = gates, loop[kQueries] = make(kQueries, {in.batch, 1, in.asked()});
  dispatch_memory(in.keys, [&](auto zero, auto element) {
    using T = decltype(zero);
    in.first_weights = zero_invalid<T>(in, positions, in.first_weights);
    hoist<T>(in.x, in.weight_x(), in.layers[0].bias_ih, gates.select(0, 0), in.pairs());
    run<T, decltype(element)>(in, positions, loop, States<T>{in, out[kStates], lower, cells, carried}, save);
  });
  for (int which = 0; which < kPublic; which++) {
    if (!out[which].defined()) continue;
    // Backward reads what the loop computed, not its rounding to 16 bits.
    if (in.applies(kExactStates + which, save) && which <= kFeeds) out[kExactStates + which] = out[which];
    out[which] = converted(out[which], in.type);
  }
  return out;
}

}  // namespace decoder

Tensors attention_decoder_forward(const OptionalTensors& inputs, const OptionalTensor& lengths,
                                  const OptionalTensor& mask, at::IntArrayRef form, bool save) {
  decoder::Inputs in(decoder::tensors_of(inputs), lengths, mask, form);
  Tensors out = decoder::forward(in, lengths, mask, save);
  for (int which = 0; which < decoder::kOutputs; which++)
    if (!out[which].defined()) out[which] = which < decoder::kPublic ? nothing(in.x).to(in.type) : nothing(in.x);
  return out;
}

}  // namespace s2s::cpu
