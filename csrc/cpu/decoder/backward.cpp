// The attention decoder with its parts, backward. The loop goes back over the steps with only what the step before
// needs on its way (the gradients of the states, the feed, the query and the history) and those of keys and v, which
// come of the same tanh as the query's. The gradients of all weights, x, values and of the keys of a dot score are
// products over many steps at once. Steps go in chunks, so that what the products read takes little memory.
#include <ATen/ops/mul.h>
#include <ATen/ops/permute.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "products.h"

namespace s2s::cpu {

namespace decoder {

namespace {

constexpr int64_t kChunkRows = 1024;  // rows of the batch times steps: deep enough for products at full speed

struct Carried {
  Tensor h, c;           // (L, B, H): in and out of the loop, at last the initial states'
  Tensor first_feed;     // (B, F), if it was given
  Tensor keys, v;        // (B, S, N, A), and a part a row of the batch: (B, N, A)
  Tensor values;         // (B, S, 1 or N, D), if it is wanted: written by the last steps' chunk, and then added to
  Tensor location;       // (B, C, K, A or F): a part a row of the batch
  Tensor dense;          // (B, F, A)
  Tensor b_score;        // (B, N), double
  Tensor previous, sum;  // (B, S): of the weights of the step before; of all weights before
  Tensor first_weights;  // (B, S)
};

template <class T>
struct Weights {
  Packed<T> query, feed, feed_h, feed_c;
  std::vector<Packed<T>> hidden, input;

  explicit Weights(const Inputs& in) : feed(Packed<T>::straight(in.weight_feed(), in.pairs())) {
    if (in.w_query.defined()) query = Packed<T>::straight(in.w_query, in.pairs());
    for (int64_t l = 0; l < in.depth(); l++) {
      hidden.push_back(Packed<T>::straight(in.layers[l].weight_hh, in.pairs()));
      input.push_back(l && !in.transition ? Packed<T>::straight(in.layers[l].weight_ih, in.pairs()) : Packed<T>());
    }
    if (!in.has_feed()) return;
    feed_h = Packed<T>::straight(in.gated() ? in.w_feed : in.feed_h(), in.pairs());
    if (!in.gated()) feed_c = Packed<T>::straight(in.feed_c(), in.pairs());
  }
};

// What a step needs and no other reads.
struct Buffers {
  Tensor gates;     // (B, G H), rows apart: of h
  Tensor fed;       // (B, F): of what the cell was fed
  Tensor asking;    // (B, H or 2H): of what the query was made of, where it was not h itself
  Tensor attended;  // (B, H + N D), dropped out
  Tensor between;   // (B, H): of what a layer read
  Tensor stays;     // (B, H) twice: what zoneout leaves to the state before

  explicit Buffers(const Inputs& in) : gates(rows_apart(in.x, {in.batch, in.wide()})) {
    if (in.drop_fed.defined()) fed = in.empty({in.batch, in.feed});
    if (in.drop_query.defined() || in.query == Query::kCH) asking = in.empty({in.batch, in.asking()});
    if (in.drop_attended.defined()) attended = in.empty({in.batch, in.attended()});
    if (in.levels() > 1) between = in.empty({in.batch, in.hidden});
    if (in.zone_h.defined() || in.zone_c.defined()) stays = in.empty({2, in.batch, in.hidden});
  }
};

// grad of what is carried, to that of what the cell made; `stays` gets what goes to the state before. Masks may be
// null.
template <class T>
void carry_backward(T* grad, const T* drop, const T* zone, T* stays, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; j++) {
    T g = grad[j];
    if (zone) stays[j] = zone[j] * g, g *= T(1) - zone[j];
    grad[j] = drop ? g * drop[j] : g;
  }
}

template <class T>
void add_product(T* to, const T* a, const T* b, int64_t n) {
  for (int64_t j = 0; j < n; j++) to[j] += a[j] * b[j];
}

template <class T, class E>
void loop(const Inputs& in, const Attention<T, E>& attention, const Weights<T>& weight, const States<T>& states,
          const Tensors& out, const Tensors& grads, const Tensor& seen, const Tensor& sums, const Carried& carried,
          const Chunk& chunk) {
  int64_t hidden = in.hidden, steps = in.steps, asked = in.asked(), depth = in.depth(), context_size = in.context();
  int64_t asks = chunk.asks, all = in.heads * in.source;
  bool history = carried.previous.defined();
  Buffers buffers(in);
  CellKernels<T> cell(in.gates);
  const auto& kernel = kernels<T>();
  using Gradients = typename Attention<T, E>::Gradients;
  const T* weights = data<T>(out[kWeights]);
  struct {
    const T *queries, *parts, *sums, *drop_weights, *first_weights, *grad_weights;
  } from{data<T>(out[kQueries]),   data<T>(out[kParts]),      data<T>(sums),
         data<T>(in.drop_weights), data<T>(in.first_weights), data<T>(grads[kWeights])};
  struct {
    T *keys, *v, *location, *dense, *scores, *previous, *sum, *first_weights;
    double* b_score;
  } to{data<T>(carried.keys),        data<T>(carried.v),
       data<T>(carried.location),    data<T>(carried.dense),
       data<T>(chunk.scores),        data<T>(carried.previous),
       data<T>(carried.sum),         data<T>(carried.first_weights),
       data<double>(carried.b_score)};

  run_teams(in.batch, 2 * in.step_work() * asks, [&](int64_t group, int64_t groups, const Team& team) {
    auto [first, last] = split(in.batch, groups, group);
    int64_t rows = last - first;
    auto [begin, end] = team.part(hidden);
    auto [attend_begin, attend_end] = team.part(rows * in.heads);
    auto [row_begin, row_end] = team.part(rows);
    Scratch<T> scratch;
    Buffer<T> later(in.source);
    auto buffer = [&](const Tensor& x) { return Rows<T>{data<T>(x) + first * x.stride(0), x.stride(0)}; };
    auto of_layer = [&](const Tensor& x, int64_t l) {
      return Rows<T>{data<T>(x) + (l * in.batch + first) * hidden, hidden};
    };
    auto of_chunk = [&](const Tensor& x, int64_t i) {
      return Rows<T>{data<T>(x) + first * x.stride(0) + i * x.stride(1), x.stride(0)};
    };
    auto mask = [&](const Tensor& x, int64_t t) { return step_rows<const T>(x, first, t); };
    auto begin_rows = [&](Rows<T> to, const Tensor& from, int64_t width, int64_t t) {
      for (int64_t i = row_begin; i < row_end; i++)
        copy_or_zero(to[i], from, ((first + i) * (steps + 1) + t) * width, width);
    };
    auto grad_top = of_layer(carried.h, in.levels() - 1);
    // Layer l at step t: the gradient of its new state becomes that of the one before, as level `level` carries it.
    auto through_cell = [&](int64_t l, int64_t t, int64_t level, Rows<T> grad_gates) {
      auto saved = layer_rows<T>(out[kGates], l, first, t), before = states.before(l, first, t);
      auto grad_h = of_layer(carried.h, level), gates_h = buffer(buffers.gates);
      auto c = in.has_cell() ? states.c_before(l, first, t) : Rows<T>{nullptr, 0};
      auto grad_c = in.has_cell() ? of_layer(carried.c, level) : Rows<T>{nullptr, 0};
      auto made = layer_rows<T>(states.cells, l, first, t);
      auto drop_h = layer_rows<const T>(in.drop_h, l, first, t), zone_h = layer_rows<const T>(in.zone_h, l, first, t);
      auto drop_c = layer_rows<const T>(in.drop_c, l, first, t), zone_c = layer_rows<const T>(in.zone_c, l, first, t);
      for (int64_t row = 0; row < rows; row++) {
        T *g = grad_h[row], *g_c = grad_c.first ? grad_c[row] : nullptr;
        if (l == depth - 1 && grads[kStates].defined()) {
          const T* shown = data<T>(grads[kStates]) + ((first + row) * steps + t) * hidden;
          kernel.add(g + begin, shown + begin, end - begin);
        }
        T* stays_h = zone_h.first ? data<T>(buffers.stays) + (first + row) * hidden : nullptr;
        T* stays_c = zone_c.first ? data<T>(buffers.stays) + (in.batch + first + row) * hidden : nullptr;
        if (drop_h.first || zone_h.first)
          carry_backward(g, drop_h.first ? drop_h[row] : nullptr, zone_h.first ? zone_h[row] : nullptr, stays_h, begin,
                         end);
        if (drop_c.first || zone_c.first)
          carry_backward(g_c, drop_c.first ? drop_c[row] : nullptr, zone_c.first ? zone_c[row] : nullptr, stays_c,
                         begin, end);
        cell.backward(saved[row], before[row], c.first ? c[row] : nullptr, made.first ? made[row] : nullptr, g, g_c,
                      grad_gates[row], gates_h[row], hidden, begin, end);
        if (stays_h) kernel.add(g + begin, stays_h + begin, end - begin);
        if (stays_c) kernel.add(g_c + begin, stays_c + begin, end - begin);
      }
      team.sync();
      weight.hidden[l].apply(team, rows, gates_h.first, gates_h.stride, grad_h.first, hidden, nullptr, true);
    };
    // From the gates of the cell that is fed, at step t.
    auto through_feed = [&](Rows<T> grad_gates, Rows<T> feed, int64_t t) {
      if (!buffers.fed.defined()) {
        weight.feed.apply(team, rows, grad_gates.first, grad_gates.stride, feed.first, feed.stride, nullptr, true);
        return;
      }
      auto fed = buffer(buffers.fed);
      weight.feed.apply(team, rows, grad_gates.first, grad_gates.stride, fed.first, fed.stride, nullptr, false);
      team.sync();
      auto drop = mask(in.drop_fed, t);
      for (int64_t row = row_begin; row < row_end; row++) add_product(feed[row], fed[row], drop[row], in.feed);
    };

    for (int64_t i = asks - 1; i >= 0; i--) {
      int64_t t = chunk.first + i;
      bool first_fed = t == 0 && in.has_first();  // the feed of this step was the caller's
      auto grad_context = of_chunk(chunk.contexts, i);
      auto feed = in.has_feed() ? of_chunk(chunk.feeds, i) : grad_context;
      begin_rows(grad_context, grads[kContexts], context_size, t);
      if (in.has_feed())  // zeros where it was the caller's, in which w_feed had no part
        begin_rows(feed, first_fed ? Tensor() : grads[kFeeds], in.feed, t);
      if (first_fed) feed = buffer(carried.first_feed);

      auto gates_of = [&](int64_t l) {
        return Rows<T>{data<T>(chunk.gates) + l * chunk.gates.stride(0) + first * chunk.gates.stride(1) +
                           i * chunk.gates.stride(2),
                       chunk.gates.stride(1)};
      };
      if (in.transition) {
        if (t < steps) through_cell(0, t, 0, gates_of(0));
        team.sync();
        if (t > 0) {
          auto grad_gates = of_chunk(chunk.transition, i - chunk.unmoved());
          through_cell(1, t - 1, 0, grad_gates);
          through_feed(grad_gates, feed, t - 1);
        }
      }
      for (int64_t l = depth - 1; l >= 0 && t < steps && !in.transition; l--) {
        auto grad_gates = gates_of(l);
        through_cell(l, t, l, grad_gates);
        if (l == 0) {
          through_feed(grad_gates, feed, t);
          continue;
        }
        auto between = buffer(buffers.between);
        weight.input[l].apply(team, rows, grad_gates.first, grad_gates.stride, between.first, between.stride, nullptr,
                              false);
        team.sync();
        auto drop = layer_rows<const T>(in.drop_layers, l - 1, first, t);
        auto below = of_layer(carried.h, l - 1);
        for (int64_t row = row_begin; row < row_end; row++)
          if (drop.first)
            add_product(below[row], between[row], drop[row], hidden);
          else
            kernel.add(below[row], between[row], hidden);
        team.sync();
      }
      team.sync();

      if (in.has_feed() && !first_fed) {
        auto y = step_rows<T>(out[kFeeds], first, t), context = step_rows<T>(out[kContexts], first, t);
        auto gate = in.gated() ? step_rows<T>(out[kGate], first, t) : Rows<T>{nullptr, 0};
        for (int64_t row = row_begin; row < row_end; row++) {
          if (in.gated())
            for (int64_t j = 0; j < in.feed; j++) {
              T g = feed[row][j], open = gate[row][j];
              grad_context[row][j] += g * open;
              feed[row][j] = g * context[row][j] * open * (T(1) - open);
            }
          else if (in.feed_form == Feed::kTanh)
            kernel.tanh_backward(feed[row], y[row], in.feed);
        }
        team.sync();
        auto drop = mask(in.drop_attended, t);
        if (!drop.first) {
          if (!in.gated())
            weight.feed_c.apply(team, rows, feed.first, feed.stride, grad_context.first, grad_context.stride, nullptr,
                                true);
          weight.feed_h.apply(team, rows, feed.first, feed.stride, grad_top.first, hidden, nullptr, true);
        } else {
          auto attended = buffer(buffers.attended);
          weight.feed_h.apply(team, rows, feed.first, feed.stride, attended.first, attended.stride, nullptr, false);
          if (!in.gated())
            weight.feed_c.apply(team, rows, feed.first, feed.stride, attended.first + hidden, attended.stride, nullptr,
                                false);
          team.sync();
          for (int64_t row = row_begin; row < row_end; row++) {
            add_product(grad_top[row], attended[row], drop[row], hidden);
            if (!in.gated()) add_product(grad_context[row], attended[row] + hidden, drop[row] + hidden, context_size);
          }
        }
        team.sync();
      }

      auto query = of_chunk(chunk.queries, i);
      for (int64_t task = attend_begin; task < attend_end; task++) {
        int64_t row = task / in.heads, n = task % in.heads, b = first + row, head = b * in.heads + n;
        int64_t at = ((b * (steps + 1) + t) * in.heads + n) * in.source, of_row = b * in.source;
        bool counted = history && t >= in.first_counted();
        T *previous = further(to.previous, of_row), *sum = further(to.sum, of_row);
        if (history) {  // what comes of step t + 1 is read now; its place is that of what step t reads
          std::copy_n(previous, in.source, later.data());
          std::fill_n(previous, in.source, T(0));
        }
        if (t <= in.first_counted()) previous = further(to.first_weights, of_row);
        Gradients grad{.query = query[row] + n * in.attention,
                       .keys = further(to.keys, of_row * asked + n * in.attention),
                       .v = further(to.v, head * in.attention),
                       .location = further(to.location, b * in.channels * in.kernel * in.location_width()),
                       .dense = further(to.dense, b * in.filters * in.attention),
                       .scores = further(to.scores, ((b * asks + i) * in.heads + n) * in.source),
                       .b_score = further(to.b_score, head),
                       .history = {.previous = previous, .sum = sum}};
        auto seen_before =
            history_of<T>(in, t, weights + b * (steps + 1) * in.source,
                          further(from.sums, (b * (steps + 1) + t) * in.source), further(from.first_weights, of_row));
        attention.backward(b, n, from.queries + (b * (steps + 1) + t) * asked + n * in.attention, seen_before,
                           further(from.drop_weights, at), weights + at, further(from.parts, at),
                           grad_context[row] + n * in.width, further(from.grad_weights, at),
                           counted ? later.data() : nullptr, counted ? sum : nullptr, grad, scratch);
      }
      team.sync();
      if (!in.w_query.defined() || buffers.asking.defined()) {
        auto asking = in.w_query.defined() ? buffer(buffers.asking) : query;
        if (in.w_query.defined()) {
          weight.query.apply(team, rows, query.first, query.stride, asking.first, asking.stride, nullptr, false);
          team.sync();
        }
        auto drop = mask(in.drop_query, t);
        int64_t at_h = in.query == Query::kCH ? hidden : 0;
        auto grad_c = at_h ? of_layer(carried.c, in.levels() - 1) : Rows<T>{nullptr, 0};
        for (int64_t row = row_begin; row < row_end; row++) {
          T* g = asking[row];
          if (drop.first) multiply(g, g, drop[row], in.asking());
          if (at_h) kernel.add(grad_c[row], g, hidden);
          kernel.add(grad_top[row], g + at_h, hidden);
        }
      } else {
        weight.query.apply(team, rows, query.first, query.stride, grad_top.first, hidden, nullptr, true);
      }
      team.sync();
    }

    bool add = chunk.first + asks <= steps;
    for (int64_t b = first; b < last; b++) {
      const T* w = data<T>(seen) + (b * (steps + 1) + chunk.first) * all;
      const T* g = data<T>(chunk.contexts) + b * asks * context_size;
      if (carried.values.defined() && in.value_heads == 1) {
        sum_of_outer(team, in.source, in.width, asks * in.heads, w, in.source, g, in.width,
                     data<T>(carried.values) + b * in.source * in.width, in.width, add);
      } else if (carried.values.defined()) {
        for (int64_t n = 0; n < in.heads; n++)
          sum_of_outer(team, in.source, in.width, asks, w + n * in.source, all, g + n * in.width, context_size,
                       data<T>(carried.values) + b * in.source * context_size + n * in.width, context_size, add);
      }
      if (!chunk.scores.defined()) continue;
      const T* queries = data<T>(out[kQueries]) + (b * (steps + 1) + chunk.first) * asked;
      for (int64_t n = 0; n < in.heads; n++)
        sum_of_outer(team, in.source, in.attention, asks, data<T>(chunk.scores) + b * asks * all + n * in.source, all,
                     queries + n * in.attention, asked,
                     data<T>(carried.keys) + b * in.source * asked + n * in.attention, asked, add);
    }
  });
}

// All weights before each step, (B, T+1, S), as the forward pass summed them.
template <class T>
Tensor sums_of(const Inputs& in, const Tensor& weights) {
  Tensor sums = in.empty({in.batch, in.steps + 1, in.source});
  parallel_for(0, in.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++)
      for (int64_t t = 0; t <= in.steps; t++) {
        T* to = data<T>(sums) + (b * (in.steps + 1) + t) * in.source;
        if (t == 0)
          copy_or_zero(to, in.first_weights, b * in.source, in.source);
        else
          std::copy_n(to - in.source, in.source, to);
        if (t > in.first_counted())
          kernels<T>().add(to, data<T>(weights) + (b * (in.steps + 1) + t - 1) * in.source, in.source);
      }
  });
  return sums;
}

}  // namespace

Tensors backward(Inputs& in, const OptionalTensors& grads, const OptionalTensor& lengths, const OptionalTensor& mask,
                 const Tensors& outputs, const std::vector<bool>& needs) {
  in.check_backward(grads, outputs, needs);
  Positions positions(in.batch, in.source, lengths, mask);
  Tensors out = outputs;
  if (in.type != in.x.scalar_type())
    for (int which = 0; which <= kFeeds; which++) out[which] = outputs[kExactStates + which];
  Tensors grad;
  for (int which = 0; which <= kFeeds; which++) grad.push_back(to_compute(grads.get(which)));
  std::vector<int64_t> states = {in.levels(), in.batch, in.hidden};
  auto begin = [&](int which) {
    OptionalTensor g = grads.get(which);
    return begin_as(given(g) ? OptionalTensor(g->reshape(states)) : g, in.empty(states));
  };
  int64_t count = in.handed.size();
  auto needed = [&](int which) { return needs[which]; };
  auto zeros = [&](int which, at::IntArrayRef shape) { return needed(which) ? in.zeros(shape) : Tensor(); };
  auto empty = [&](int which, const Tensor& like) {
    return needed(which) && like.defined() ? in.empty(like.sizes()) : Tensor();
  };
  bool dot = in.score == Score::kDot;
  Carried carried{.h = begin(kHN), .c = in.has_cell() ? begin(kCN) : Tensor()};
  if (in.has_first())
    carried.first_feed = begin_as(grad[kFeeds].defined() && in.has_feed() ? grad[kFeeds].select(1, 0) : Tensor(),
                                  in.empty({in.batch, in.feed}));
  if (!dot) {
    carried.keys = in.zeros({in.batch, in.source, in.heads, in.attention});
    carried.v = in.zeros({in.batch, in.heads, in.attention});
  } else if (needed(kKeys)) {
    carried.keys = in.empty({in.batch, in.source, in.heads, in.attention});
  }
  if (needed(kValues)) carried.values = in.empty({in.batch, in.source, in.value_heads, in.width});
  if (needed(kBScore) && in.normalization == Normalization::kSigmoid)
    carried.b_score = at::zeros({in.batch, in.heads}, in.x.options().dtype(at::kDouble));
  carried.location = zeros(kWLocation, {in.batch, in.channels, in.kernel, in.location_width()});
  if (in.filters) carried.dense = zeros(kWDense, {in.batch, in.filters, in.attention});
  bool forward = in.normalization == Normalization::kForward;
  if (forward || (in.kernel && !in.detach)) {
    carried.previous = in.zeros({in.batch, in.source});
    if (in.sums()) carried.sum = in.zeros({in.batch, in.source});
    carried.first_weights = zeros(kFirstWeights, {in.batch, in.source});
  }
  Results results{.x = empty(kX, in.x),
                  .w_query = empty(kWQuery, in.w_query),
                  .b_query = in.b_query.defined() ? zeros(kBQuery, {in.asked()}) : Tensor(),
                  .w_feed = empty(kWFeed, in.w_feed),
                  .b_feed = in.b_feed.defined() ? zeros(kBFeed, {in.feed}) : Tensor()};
  auto layer_at = [&](int64_t l, int64_t i) { return l == 0 ? kWeightIh + i : kUpperLayers + 4 * (l - 1) + i; };
  for (int64_t l = 0; l < in.depth(); l++) {
    bool biases = needed(layer_at(l, 2)) || needed(layer_at(l, 3));
    results.layers.push_back({empty(layer_at(l, 0), in.layers[l].weight_ih),
                              empty(layer_at(l, 1), in.layers[l].weight_hh),
                              biases ? in.zeros({4 * in.hidden}) : Tensor()});
  }
  dispatch_memory(in.keys, [&](auto zero, auto element) {
    using T = decltype(zero);
    using E = decltype(element);
    in.first_weights = zero_invalid<T>(in, positions, in.first_weights);
    Tensor cells = in.has_cell() ? outputs[kCells] : Tensor();
    States<T> states{in, out[kStates], outputs[kLower], cells, in.carries_c() ? outputs[kCarried] : cells};
    Attention<T, E> attention(in, positions);
    Weights<T> weights(in);
    Tensor seen = out[kWeights];
    // Factors of masked positions may be anything.
    if (in.drop_weights.defined()) seen = at::mul(seen, in.drop_weights).masked_fill_(seen.eq(0), 0);
    Tensor sums = in.sums() ? sums_of<T>(in, out[kWeights]) : Tensor();
    int64_t chunk_steps = std::max<int64_t>(1, kChunkRows / std::max<int64_t>(in.batch, 1));
    int64_t chunks = (in.steps + chunk_steps) / chunk_steps;  // as even as can be
    for (int64_t i = chunks - 1; i >= 0; i--) {
      auto [first, end] = split(in.steps + 1, chunks, i);
      int64_t asks = end - first, cells = std::min(end, in.steps) - first;
      Chunk chunk{.first = first,
                  .asks = asks,
                  .cells = cells,
                  .gates = rows_apart(in.x, {in.levels(), in.batch, cells, 4 * in.hidden}),
                  .queries = rows_apart(in.x, {in.batch, asks, in.asked()}),
                  .contexts = in.empty({in.batch, asks, in.context()})};
      if (in.transition) chunk.transition = rows_apart(in.x, {in.batch, asks - chunk.unmoved(), 4 * in.hidden});
      if (in.has_feed()) chunk.feeds = rows_apart(in.x, {in.batch, asks, in.feed});
      if (dot && carried.keys.defined()) chunk.scores = in.empty({in.batch, asks, in.heads, in.source});
      loop<T, E>(in, attention, weights, states, out, grad, seen, sums, carried, chunk);
      products_of<T>(in, states, out, chunk, results);
    }
    if (carried.first_weights.defined() && carried.sum.defined()) carried.first_weights.add_(carried.sum);
    carried.first_weights = zero_invalid<T>(in, positions, carried.first_weights);
  });

  Tensors all(count);
  all[kX] = results.x, all[kH0] = carried.h, all[kC0] = carried.c;
  all[kKeys] = carried.keys, all[kValues] = carried.values;
  if (!dot) all[kV] = carried.v.sum(0);
  all[kWQuery] = results.w_query, all[kBQuery] = results.b_query;
  all[kWFeed] = results.w_feed, all[kBFeed] = results.b_feed, all[kFirstFeed] = carried.first_feed;
  if (carried.b_score.defined()) all[kBScore] = carried.b_score.sum(0);
  if (carried.location.defined()) all[kWLocation] = carried.location.sum(0).permute({2, 0, 1}).contiguous();
  if (carried.dense.defined()) all[kWDense] = carried.dense.sum(0).t().contiguous();
  all[kFirstWeights] = carried.first_weights;
  for (int64_t l = 0; l < in.depth(); l++) {
    auto [bias_ih, bias_hh] = bias_gradients(in.gates, results.layers[l].gates);
    all[layer_at(l, 0)] = results.layers[l].weight_ih, all[layer_at(l, 1)] = results.layers[l].weight_hh;
    all[layer_at(l, 2)] = bias_ih, all[layer_at(l, 3)] = bias_hh;
  }
  // What has no part in the outputs, masks among it, has a gradient of zeros.
  for (int64_t which = 0; which < count; which++)
    all[which] = !needed(which)         ? Tensor()
                 : all[which].defined() ? converted(all[which].view(in.handed[which].sizes()), in.type)
                                        : cpu::zeros(in.handed[which].sizes(), in.handed[which].options());
  return all;
}

}  // namespace decoder

Tensors attention_decoder_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                   const OptionalTensor& lengths, const OptionalTensor& mask, at::IntArrayRef form,
                                   at::TensorList outputs, const c10::List<bool>& needs) {
  decoder::Inputs in(decoder::tensors_of(inputs), lengths, mask, form);
  std::vector<bool> needed(needs.begin(), needs.end());
  for (size_t i = 0; i < needed.size() && i < in.handed.size(); i++)
    TORCH_CHECK_VALUE(!needed[i] || in.handed[i].defined(), "needs has a gradient of input ", i, ", which is None");
  Tensors made = decoder::backward(in, grads, lengths, mask, outputs.vec(), needed);
  for (Tensor& grad : made)
    if (!grad.defined()) grad = nothing(in.x).to(in.type);
  return made;
}

}  // namespace s2s::cpu
