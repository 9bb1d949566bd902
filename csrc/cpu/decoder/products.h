// The gradients that are sums over many steps at once, of one chunk of steps of the decoder's backward pass.
#pragma once

#include "loop.h"

namespace s2s::cpu::decoder {

constexpr int64_t kRowsAtOnce = 12;  // rows of C that a product's kernel makes at once

// What the loop leaves of steps first .. first + asks of 0..T; cells follow each step but T.
struct Chunk {
  int64_t first, asks, cells;
  Tensor gates;       // (L, B, cells, 4H), rows apart
  Tensor transition;  // (B, asks, 4H), rows apart: of the cell after each ask; without that of h_0
  Tensor queries;     // (B, asks, N * A), rows apart
  Tensor contexts;    // (B, asks, N * D)
  Tensor feeds;       // (B, asks, F), rows apart, of the sum under tanh or sigmoid; undefined without w_feed
  Tensor scores;      // (B, asks, N, S), of a dot score

  int64_t unmoved() const { return first == 0 ? 1 : 0; }
};

// Many sums of rows: out (count of rows S, width, rows ldo apart) = or += a^T (depth, S; rows lda apart) times
// b (depth, width; rows ldb apart). Each thread of the team makes its part of the columns.
template <class T>
void sum_of_outer(const Team& team, int64_t rows, int64_t width, int64_t depth, const T* a, int64_t lda, const T* b,
                  int64_t ldb, T* out, int64_t ldo, bool accumulate) {
  const auto& kernel = kernels<T>();
  constexpr int64_t deepest = products::kDepthOfGradients;
  int64_t panel = kernel.panel;
  auto [first, last] = team.part((width + panel - 1) / panel);
  int64_t begin = first * panel, end = std::min(last * panel, width);
  if (begin >= end) return;
  if (depth == 0 && !accumulate)
    for (int64_t row = 0; row < rows; row++) std::fill(out + row * ldo + begin, out + row * ldo + end, T(0));
  thread_local Buffer<T> packed;
  packed.resize(deepest * (last - first) * panel);
  for (int64_t p = 0; p < depth; p += deepest) {
    int64_t deep = std::min(deepest, depth - p);
    for (int64_t column = begin; column < end; column += panel)
      kernel.pack(b + p * ldb + column, ldb, 1, deep, std::min(panel, end - column),
                  packed.data() + (column - begin) * deep);
    // A few rows at a time, each read and written from end to end.
    int64_t parts = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
    for (int64_t part = 0; part < parts; part++) {
      auto [row, next] = split(rows, parts, part);
      kernel.gemm_transposed(next - row, end - begin, deep, a + p * lda + row, lda, packed.data(),
                             out + row * ldo + begin, ldo, nullptr, p > 0 || accumulate);
    }
  }
}

// The gradients of the inputs, undefined where they are not wanted.
struct Results {
  Tensor x, w_query, b_query, w_feed, b_feed;
  struct OfLayer {
    Tensor weight_ih, weight_hh, gates;  // gates: the sum over rows and steps (4H), of which those of the biases come
  };
  std::vector<OfLayer> layers;
};

// Rows that products read: in place, or copies of them.
template <class T>
struct ReadRows {
  RowPointers<T> rows;
  std::unique_ptr<T[]> copies;
};

// Rows (b, i) of what step first + i read, for i of 0..count: row(b, t), times those of `drop` (B, steps, width).
template <class T, class Row>
ReadRows<T> read_rows(const Inputs& in, int64_t first, int64_t count, int64_t width, const Row& row,
                      const Tensor& drop) {
  ReadRows<T> read;
  read.rows.reserve(in.batch * count);
  for (int64_t b = 0; b < in.batch; b++)
    for (int64_t i = 0; i < count; i++) read.rows.push_back(row(b, first + i));
  if (!drop.defined()) return read;
  read.copies = std::make_unique_for_overwrite<T[]>(in.batch * count * width);
  parallel_for(0, in.batch * count, 1 + 16384 / (width + 1), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      T* to = read.copies.get() + at * width;
      multiply(to, read.rows[at], step_rows<const T>(drop, at / count, first + at % count).first, width);
      read.rows[at] = to;
    }
  });
  return read;
}

// x's written, the others written by the first chunk, the last steps', and then added to.
template <class T>
void products_of(const Inputs& in, const States<T>& states, const Tensors& out, const Chunk& chunk,
                 const Results& results) {
  int64_t hidden = in.hidden, steps = in.steps, first = chunk.first, context_size = in.context();
  bool add = first + chunk.asks <= steps, pairs = in.pairs();
  auto context = [&](int64_t b, int64_t t) -> const T* {
    return data<T>(out[kContexts]) + (b * (steps + 1) + t) * context_size;
  };
  auto fed = [&](int64_t b, int64_t t) -> const T* {
    if (t == 0 && in.has_first()) return data<T>(in.first_feed) + b * in.feed;
    return in.has_feed() ? data<T>(out[kFeeds]) + (b * (steps + 1) + t) * in.feed : context(b, t);
  };
  auto input = [&](int64_t b, int64_t t) -> const T* { return data<T>(in.x) + (b * steps + t) * in.inputs; };
  auto top = [&](int64_t b, int64_t t) -> const T* { return states.asking(b, t).first; };
  auto all = RowBlocks<const T>::of;
  auto bias = [](const Tensor& to, const Tensor& grad) { to.add_(column_sums(grad)); };

  if (results.x.defined())
    product(all(chunk.gates.select(0, 0)), in.layers[0].weight_ih.narrow(1, 0, in.inputs),
            RowBlocks<T>::of(results.x.narrow(1, first, chunk.cells)), pairs);
  for (int64_t l = 0; l < in.depth(); l++) {
    const auto& result = results.layers[l];
    bool fed_here = l == (in.transition ? 1 : 0);
    // This layer's steps begin .. begin + cells; a transition's come after the asks, but for that of h_0.
    bool moves = in.transition && fed_here;
    int64_t later = moves ? 1 : 0, cells = moves ? chunk.asks - chunk.unmoved() : chunk.cells;
    int64_t begin = moves ? first + chunk.unmoved() - 1 : first;
    Tensor gates = moves ? chunk.transition : chunk.gates.select(0, l);
    if (result.weight_ih.defined() && l == 0) {
      auto x = read_rows<T>(in, begin, cells, in.inputs, input, {});
      outer_products(all(gates), x.rows, columns(result.weight_ih, 0, in.inputs), pairs, add);
    }
    if (result.weight_ih.defined() && fed_here) {
      int64_t at = in.transition ? 0 : in.inputs;
      auto what = [&](int64_t b, int64_t t) { return fed(b, t + later); };
      auto f = read_rows<T>(in, begin, cells, in.feed, what, in.drop_fed);
      outer_products(all(gates), f.rows, columns(result.weight_ih, at, at + in.feed), pairs, add);
    } else if (result.weight_ih.defined() && l > 0) {
      auto below = [&](int64_t b, int64_t t) -> const T* { return states.after(l - 1, b, t).first; };
      auto read = read_rows<T>(in, begin, cells, hidden, below,
                               in.drop_layers.defined() ? in.drop_layers.select(0, l - 1) : Tensor());
      outer_products(all(gates), read.rows, result.weight_ih, pairs, add);
    }
    if (result.weight_hh.defined()) {
      auto before = [&](int64_t b, int64_t t) -> const T* { return states.before(l, b, t).first; };
      weight_hh_gradient(in.gates, all(gates), read_rows<T>(in, begin, cells, hidden, before, {}).rows,
                         result.weight_hh, pairs, add);
    }
    if (result.gates.defined()) bias(result.gates, gates);
  }
  if (results.w_query.defined()) {
    std::unique_ptr<T[]> joined;
    auto asking = [&](int64_t b, int64_t t) -> const T* {
      if (in.query == Query::kH) return top(b, t);
      if (!joined) joined = std::make_unique_for_overwrite<T[]>(in.batch * chunk.asks * in.asking());
      T* to = joined.get() + (b * chunk.asks + t - first) * in.asking();
      std::copy_n(states.c_asking(b, t).first, hidden, to);
      std::copy_n(top(b, t), hidden, to + hidden);
      return to;
    };
    auto read = read_rows<T>(in, first, chunk.asks, in.asking(), asking, in.drop_query);
    outer_products(all(chunk.queries), read.rows, results.w_query, pairs, add);
  }
  if (results.b_query.defined()) bias(results.b_query, chunk.queries);
  if (results.w_feed.defined()) {
    // [h ; c] has one mask; its two parts lie in different places.
    auto drop = [&](int64_t begin, int64_t end) {
      return in.drop_attended.defined() ? in.drop_attended.narrow(2, begin, end - begin).contiguous() : Tensor();
    };
    auto h = read_rows<T>(in, first, chunk.asks, hidden, top, drop(0, hidden));
    outer_products(all(chunk.feeds), h.rows, columns(results.w_feed, 0, hidden), pairs, add);
    if (!in.gated()) {
      auto c = read_rows<T>(in, first, chunk.asks, context_size, context, drop(hidden, hidden + context_size));
      outer_products(all(chunk.feeds), c.rows, columns(results.w_feed, hidden, hidden + context_size), pairs, add);
    }
  }
  if (results.b_feed.defined()) bias(results.b_feed, chunk.feeds);
}

}  // namespace s2s::cpu::decoder
