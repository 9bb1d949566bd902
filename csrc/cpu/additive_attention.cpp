// Additive attention for one query or T of them. Tasks are rows of the batch and heads, and parts of the queries when
// those are fewer than the threads; each goes over the source in tiles that stay in the cache.
#include <ATen/ops/bmm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "memory.h"

namespace s2s::cpu {

namespace {

constexpr int64_t kTile = 64;        // source positions
constexpr int64_t kProductRows = 4;  // queries that make a packed product worth while

struct Inputs : AttentionArguments {
  Inputs(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v, const OptionalTensor& lengths,
         const OptionalTensor& mask, const OptionalTensor& bias)
      : AttentionArguments(query, keys, values, v, lengths, mask, bias, to_compute) {}
};

// One task's share: queries first..first + count of row b and head n.
struct Task {
  int64_t b, n, first, count;
};

// parts > 1 splits the queries as well.
template <class F>
void for_tasks(const Inputs& in, int64_t parts, const F& f) {
  at::parallel_for(0, in.batch * in.heads * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      int64_t pair = task / parts;
      auto [first, last] = split(in.queries, parts, task % parts);
      if (last > first) f(Task{pair / in.heads, pair % in.heads, first, last - first});
    }
  });
}

// context: undefined when the weights alone are wanted.
template <class T>
void forward(const Inputs& in, const Positions& positions, const Tensor& context, const Tensor& weights) {
  Memory<T> memory(in.keys, in.values, in.v, positions);
  const auto& kernel = kernels<T>();
  int64_t threads = at::get_num_threads(), pairs = in.batch * in.heads;
  int64_t parts = pairs >= threads || pairs == 0 ? 1 : std::min(in.queries, (threads + pairs - 1) / pairs);
  for_tasks(in, parts, [&](const Task& task) {
    int64_t row = (task.b * in.queries + task.first) * in.heads + task.n;  // of (B, T, N)
    int64_t weight_stride = in.heads * in.source, context_stride = in.heads * in.width;
    T *w = data<T>(weights) + row * in.source, *c = context.defined() ? data<T>(context) + row * in.width : nullptr;
    int64_t count = positions.count(task.b);
    std::vector<T> panel(c && task.count >= kProductRows ? kernel.panel * kTile : 0);
    const T* queries = data<T>(in.query) + row * in.attention;
    for (int64_t first = 0; first < count; first += kTile) {
      auto source = memory.source(task.b, task.n, first, std::min(first + kTile, count));
      for (int64_t t = 0; t < task.count; t++)
        kernel.scores(source, queries + t * in.heads * in.attention, w + t * weight_stride + first);
    }
    for (int64_t t = 0; t < task.count; t++) {
      const T* bias = in.bias.defined()
                          ? data<T>(in.bias) + (in.bias_stride ? (task.b * in.queries + task.first + t) * in.source
                                                               : task.b * in.source)
                          : nullptr;
      kernel.softmax(w + t * weight_stride, positions.begin(task.b), count, bias);
      if (c && task.count < kProductRows)
        kernel.context(memory.source(task.b, task.n), w + t * weight_stride, c + t * context_stride);
    }
    if (c && task.count >= kProductRows) {
      if (count == 0)
        for (int64_t t = 0; t < task.count; t++) std::fill_n(c + t * context_stride, in.width, T(0));
      for (int64_t first = 0; first < count; first += kTile) {
        auto source = memory.source(task.b, task.n, first, std::min(first + kTile, count));
        for (int64_t j = 0; j < in.width; j += kernel.panel) {
          int64_t n = std::min(kernel.panel, in.width - j);
          kernel.pack_indexed(source.values + j, in.width, source.positions, true, source.count, n, panel.data());
          kernel.gemm(task.count, n, source.count, w + first, weight_stride, panel.data(), c + j, context_stride,
                      nullptr, first > 0);
        }
      }
    }
    for (int64_t t = 0; t < task.count; t++)
      kernel.scatter(w + t * weight_stride, positions.begin(task.b), count, in.source);
  });
}

struct Gradients {
  // v: (B, N, A), one part a row; bias: (B, N, T, S); values: made in the same pass where there is one query a row
  Tensor query, keys, values, v, bias;
};

template <class T>
void backward(const Inputs& in, const Positions& positions, const Tensor& weights, const Tensor& grad_context,
              const Tensor& grad_weights, const Gradients& grads) {
  Memory<T> memory(in.keys, in.values, in.v, positions);
  const auto& kernel = kernels<T>();
  for_tasks(in, 1, [&](const Task& task) {
    int64_t row = task.b * in.queries * in.heads + task.n;
    int64_t weight_stride = in.heads * in.source, context_stride = in.heads * in.width;
    const T* w = data<T>(weights) + row * in.source;
    int64_t count = positions.count(task.b), attention = in.attention;
    bool products = grad_context.defined() && task.count >= kProductRows;
    std::vector<T> scratch(attention), panel(products ? kernel.panel * in.width : 0), grad_scores(task.count * count);
    Queries<T> queries{
        .queries = data<T>(in.query) + row * attention, .stride = in.heads * attention, .count = task.count};

    if (grad_context.defined()) {  // gradient of the weights: grad_context . values
      const T* c = data<T>(grad_context) + row * in.width;
      if (grads.values.defined())
        kernel.outer(w, c, in.source, in.width, data<T>(grads.values) + task.b * in.source * in.width);
      if (!products) {
        for (int64_t t = 0; t < task.count; t++)
          kernel.values_dot(memory.source(task.b, task.n), c + t * context_stride, &grad_scores[t * count]);
      } else {
        auto source = memory.source(task.b, task.n);
        for (int64_t j = 0; j < count; j += kernel.panel) {
          int64_t n = std::min(kernel.panel, count - j);
          kernel.pack_indexed(source.values, in.width, source.positions + j, false, in.width, n, panel.data());
          kernel.gemm(task.count, n, in.width, c, context_stride, panel.data(), &grad_scores[j], count, nullptr, false);
        }
      }
    }
    const int64_t* p = positions.begin(task.b);
    for (int64_t t = 0; t < task.count; t++) {
      T* g = grad_scores.data() + t * count;
      if (grad_weights.defined())
        for (int64_t i = 0; i < count; i++) g[i] += data<T>(grad_weights)[row * in.source + t * weight_stride + p[i]];
      kernel.softmax_backward(w + t * weight_stride, p, count, g);
      if (grads.bias.defined()) {
        T* bias = data<T>(grads.bias) + ((task.b * in.heads + task.n) * in.queries + t) * in.source;
        std::copy(g, g + count, bias);
        kernel.scatter(bias, p, count, in.source);
      }
    }

    T* grad_query = data<T>(grads.query) + row * attention;
    int64_t query_stride = in.heads * attention;
    for (int64_t t = 0; t < task.count; t++) std::fill_n(grad_query + t * query_stride, attention, T(0));
    T* grad_v = data<T>(grads.v) + (task.b * in.heads + task.n) * attention;
    std::fill_n(grad_v, attention, T(0));
    T* grad_keys = data<T>(grads.keys) + task.b * in.source * query_stride + task.n * attention;
    for (int64_t i = 0, s = 0; s < in.source; s++) {  // invalid positions, which nothing below touches
      if (i < count && p[i] == s)
        i++;
      else
        std::fill_n(grad_keys + s * query_stride, attention, T(0));
    }
    // grad_query of a tile is summed by itself first: one long sum would lose digits.
    std::vector<T> tile(task.count * attention);
    for (int64_t first = 0; first < count; first += kTile) {
      auto source = memory.source(task.b, task.n, first, std::min(first + kTile, count));
      std::fill(tile.begin(), tile.end(), T(0));
      kernel.keys_backward(source, queries, &grad_scores[first], count, grad_keys, grad_v, tile.data(), scratch.data());
      for (int64_t t = 0; t < task.count; t++)
        kernel.add(grad_query + t * query_stride, &tile[t * attention], attention);
    }
  });
}

}  // namespace

Two additive_attention(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                       const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias) {
  Inputs in(query, keys, values, v, lengths, mask, bias);
  Positions positions(in.batch, in.source, lengths, mask);
  Tensor context = in.empty(in.shape(in.width)), weights = in.empty(in.shape(in.source));
  dispatch(in.query, [&](auto zero) { forward<decltype(zero)>(in, positions, context, weights); });
  return {context.to(query.scalar_type()), weights.to(query.scalar_type())};
}

Five additive_attention_backward(const OptionalTensor& grad_context, const OptionalTensor& grad_weights,
                                 const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                                 const Tensor& weights, const OptionalTensor& lengths, const OptionalTensor& mask,
                                 const OptionalTensor& bias, Needs<5> needs) {
  Inputs in(query, keys, values, v, lengths, mask, bias);
  Positions positions(in.batch, in.source, lengths, mask);
  Tensor w = weights.contiguous(), c = to_compute(grad_context);
  if (weights.scalar_type() != in.query.scalar_type()) {
    // Saturated weights rounded to 16 bits leave nothing of their gradient: make them again.
    w = in.empty(weights.sizes());
    dispatch(in.query, [&](auto zero) { forward<decltype(zero)>(in, positions, Tensor(), w); });
  }
  bool one = in.queries * in.heads == 1;
  Gradients grads{.query = in.empty(in.query.sizes()),
                  .keys = in.empty(in.keys.sizes()),
                  .values = needs[2] && one && c.defined() ? in.empty(in.values.sizes()) : Tensor(),
                  .v = in.empty({in.batch, in.heads, in.attention}),
                  .bias = needs[4] ? in.empty({in.batch, in.heads, in.queries, in.source}) : Tensor()};
  if (needs[0] || needs[1] || needs[3] || needs[4] || grads.values.defined())
    dispatch(in.query,
             [&](auto zero) { backward<decltype(zero)>(in, positions, w, c, to_compute(grad_weights), grads); });
  auto give = [&](bool need, const Tensor& grad, const Tensor& like) {
    return need ? grad.reshape(like.sizes()).to(like.scalar_type()) : nothing(query);
  };
  Tensor grad_values = grads.values;
  if (needs[2] && !grad_values.defined()) {
    int64_t rows = in.queries * in.heads;
    grad_values = c.defined()
                      ? at::bmm(w.view({in.batch, rows, in.source}).transpose(1, 2), c.view({in.batch, rows, in.width}))
                      : at::zeros(in.values.sizes(), in.values.options());
  }
  Tensor grad_bias = nothing(query);
  if (needs[4]) {
    grad_bias = at::sum(grads.bias, bias->dim() == 3 ? at::IntArrayRef({1}) : at::IntArrayRef({1, 2}));
    grad_bias = grad_bias.to(query.scalar_type());
  }
  Tensor grad_v = needs[3] ? at::sum(grads.v, at::IntArrayRef({0})) : Tensor();
  return {give(needs[0], grads.query, query), give(needs[1], grads.keys, keys), give(needs[2], grad_values, values),
          give(needs[3], grad_v, v), grad_bias};
}

}  // namespace s2s::cpu
