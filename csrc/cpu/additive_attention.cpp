// Additive attention for one query or T of them. Tasks are rows of the batch and heads, and parts of the queries when
// those are fewer than the threads; each goes over the source in tiles that stay in the cache.
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>

#include "memory.h"

namespace s2s::cpu {

namespace {

constexpr int64_t kTile = 64;        // source positions
constexpr int64_t kProductRows = 4;  // queries that make a packed product worth while

// In the computing dtype, but for keys and values, which the kernels read as they are.
struct Inputs : AttentionArguments {
  Inputs(const Tensor& query_, const Tensor& keys_, const Tensor& values_, const Tensor& v_,
         const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias_)
      : AttentionArguments(query_, keys_, values_, v_, lengths, mask, bias_,
                           [](const Tensor& x) { return x.contiguous(); }) {
    query = to_compute(query), v = to_compute(v);
    if (bias.defined()) bias = to_compute(bias);
  }
};

// One task's share: queries first..first + count of row b and head n.
struct Task {
  int64_t b, n, first, count;
};

// parts > 1 splits the queries as well. A task of no queries is one too: its keys and v have gradients, all zero.
template <class F>
void for_tasks(const Inputs& in, int64_t parts, const F& f) {
  double work = 4.0 * in.batch * in.heads * in.queries * in.source * (in.attention + in.width);
  auto tasks = [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      int64_t pair = task / parts;
      auto [first, last] = split(in.queries, parts, task % parts);
      f(Task{pair / in.heads, pair % in.heads, first, last - first});
    }
  };
  parallel_for(0, in.batch * in.heads * parts, 1, tasks, work);
}

// The weights of a task's queries, compact: one number a valid position, in order.
template <class T, class E>
void weigh(const Inputs& in, const Task& task, const Source<T, E>& source, const T* queries, T* w) {
  int64_t stride = in.heads * in.source, first_query = task.b * in.queries + task.first;
  for (int64_t first = 0; first < source.count; first += kTile)
    for (int64_t t = 0; t < task.count; t++)
      source_kernels<T, E>().scores(tile(source, first, kTile), queries + t * in.heads * in.attention,
                                    w + t * stride + first);
  for (int64_t t = 0; t < task.count; t++) {
    const T* bias =
        in.bias.defined() ? data<T>(in.bias) + (in.bias_stride ? first_query + t : task.b) * in.source : nullptr;
    kernels<T>().softmax(w + t * stride, source.positions, source.count, bias);
  }
}

// From compact to one number a position.
template <class T, class E>
void scatter(const Inputs& in, const Task& task, const Source<T, E>& source, T* w) {
  for (int64_t t = 0; t < task.count; t++)
    kernels<T>().scatter(w + t * in.heads * in.source, source.positions, source.count, in.source);
}

template <class T, class E>
void forward(const Inputs& in, const Positions& positions, const Tensor& context, const Tensor& weights) {
  const auto& kernel = kernels<T>();
  const auto& attend = source_kernels<T, E>();
  Memory<T, E> memory(in.keys, in.values, in.v, positions);
  int64_t threads = num_threads(), pairs = in.batch * in.heads;
  int64_t parts = pairs >= threads || pairs == 0 ? 1 : std::min(in.queries, (threads + pairs - 1) / pairs);
  for_tasks(in, parts, [&](const Task& task) {
    int64_t row = (task.b * in.queries + task.first) * in.heads + task.n;  // of (B, T, N)
    int64_t weight_stride = in.heads * in.source, context_stride = in.heads * in.width;
    T *w = data<T>(weights) + row * in.source, *c = data<T>(context) + row * in.width;
    auto source = memory.source(task.b, task.n);
    weigh(in, task, source, data<T>(in.query) + row * in.attention, w);
    if (task.count < kProductRows) {
      for (int64_t t = 0; t < task.count; t++) make_context(source, w + t * weight_stride, c + t * context_stride);
    } else if (source.count == 0) {
      for (int64_t t = 0; t < task.count; t++) std::fill_n(c + t * context_stride, in.width, T(0));
    } else {
      Buffer<T> panel(kernel.panel * kTile);
      bool is_long = source.count > kTogether;
      Buffer<double> sums(is_long ? task.count * in.width : 0);
      for (int64_t first = 0; first < source.count; first += kTile) {
        auto part = tile(source, first, kTile);
        for (int64_t j = 0; j < in.width; j += kernel.panel) {
          int64_t n = std::min(kernel.panel, in.width - j);
          attend.pack_indexed(part.values + j, in.width, part.positions, true, part.count, n, panel.data());
          kernel.gemm(task.count, n, part.count, w + first, weight_stride, panel.data(), c + j, context_stride, nullptr,
                      is_long ? first % kTogether > 0 : first > 0);
        }
        if (is_long && ((first + kTile) % kTogether == 0 || first + kTile >= source.count))
          for (int64_t t = 0; t < task.count; t++)
            for (int64_t j = 0; j < in.width; j++) sums[t * in.width + j] += c[t * context_stride + j];
      }
      for (int64_t t = 0; is_long && t < task.count; t++)
        for (int64_t j = 0; j < in.width; j++) c[t * context_stride + j] = static_cast<T>(sums[t * in.width + j]);
    }
    scatter(in, task, source, w);
  });
}

struct Gradients {
  // keys and values in their own dtype, values where they are made in the same pass: for one query a row;
  // v: (B, N, A), one part a row; bias: (B, N, T, S)
  Tensor query, keys, values, v, bias;
};

// remake: the weights are not given, but made again.
template <class T, class E>
void backward(const Inputs& in, const Positions& positions, const Tensor& weights, bool remake,
              const Tensor& grad_context, const Tensor& grad_weights, const Gradients& grads) {
  const auto& kernel = kernels<T>();
  const auto& attend = source_kernels<T, E>();
  Memory<T, E> memory(in.keys, in.values, in.v, positions);
  for_tasks(in, 1, [&](const Task& task) {
    int64_t row = task.b * in.queries * in.heads + task.n;
    int64_t weight_stride = in.heads * in.source, context_stride = in.heads * in.width;
    T* w = data<T>(weights) + row * in.source;
    auto source = memory.source(task.b, task.n);
    int64_t count = source.count, attention = in.attention;
    bool products = grad_context.defined() && task.count >= kProductRows;
    Buffer<T> scratch(2 * attention), panel(products ? kernel.panel * in.width : 0), grad_scores(task.count * count);
    Queries<T> queries{
        .queries = data<T>(in.query) + row * attention, .stride = in.heads * attention, .count = task.count};

    if (remake) weigh(in, task, source, queries.queries, w), scatter(in, task, source, w);
    if (grad_context.defined()) {  // gradient of the weights: grad_context . values
      const T* c = data<T>(grad_context) + row * in.width;
      if (grads.values.defined())
        attend.outer(w, c, in.source, in.width, bits<E>(grads.values) + task.b * in.source * in.width);
      if (!products) {
        for (int64_t t = 0; t < task.count; t++)
          attend.values_dot(source, c + t * context_stride, grad_scores.data() + t * count);
      } else {
        for (int64_t j = 0; j < count; j += kernel.panel) {
          int64_t n = std::min(kernel.panel, count - j);
          attend.pack_indexed(source.values, in.width, source.positions + j, false, in.width, n, panel.data());
          kernel.gemm(task.count, n, in.width, c, context_stride, panel.data(), grad_scores.data() + j, count, nullptr,
                      false);
        }
      }
    }
    const int64_t* p = source.positions;
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

    int64_t query_stride = in.heads * attention;
    E* grad_keys = bits<E>(grads.keys) + task.b * in.source * query_stride + task.n * attention;
    for (int64_t i = 0, s = 0; s < in.source; s++) {  // invalid positions, which nothing below touches
      if (i < count && p[i] == s)
        i++;
      else
        std::fill_n(grad_keys + s * source.key_stride, attention, E{});
    }
    // The gradients of the queries and of v are summed by tiles first: one long sum would lose digits.
    thread_local LongSum<T> of_queries, of_v;
    of_queries.reset(task.count * attention), of_v.reset(attention);
    Buffer<T>&sums = of_queries.part, &grad_v = of_v.part;
    for (int64_t first = 0; first < count; first += kTile) {
      std::fill(grad_v.begin(), grad_v.end(), T(0));
      if (task.count == 1) {
        attend.one_query_backward(tile(source, first, kTile), queries.queries, grad_scores.data() + first, sums.data(),
                                  grad_keys, grad_v.data());
      } else {
        std::fill(sums.begin(), sums.end(), T(0));
        attend.queries_backward(tile(source, first, kTile), queries, grad_scores.data() + first, count, sums.data(),
                                grad_keys, grad_v.data(), scratch.data());
      }
      of_queries.add_part(), of_v.add_part();
    }
    of_queries.write(data<T>(grads.query) + row * attention, attention, query_stride);
    of_v.write(data<T>(grads.v) + (task.b * in.heads + task.n) * attention);
  });
}

}  // namespace

Two additive_attention(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                       const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias) {
  Inputs in(query, keys, values, v, lengths, mask, bias);
  Positions positions(in.batch, in.source, lengths, mask);
  Tensor context = in.empty(in.shape(in.width)), weights = in.empty(in.shape(in.source));
  dispatch_memory(in.keys, [&](auto t, auto e) { forward<decltype(t), decltype(e)>(in, positions, context, weights); });
  return {converted(context, query.scalar_type()), converted(weights, query.scalar_type())};
}

Five additive_attention_backward(const OptionalTensor& grad_context, const OptionalTensor& grad_weights,
                                 const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                                 const Tensor& weights, const OptionalTensor& lengths, const OptionalTensor& mask,
                                 const OptionalTensor& bias, Needs<5> needs) {
  Inputs in(query, keys, values, v, lengths, mask, bias);
  in.check_backward(query, grad_context, grad_weights, weights, needs[4]);
  Positions positions(in.batch, in.source, lengths, mask);
  // Saturated weights rounded to 16 bits leave nothing of their gradient: make them again.
  bool remake = weights.scalar_type() != in.query.scalar_type();
  Tensor w = remake ? in.empty(weights.sizes()) : weights.contiguous(), c = to_compute(grad_context);
  bool one = in.queries * in.heads == 1;
  Gradients grads{.query = in.empty(in.query.sizes()),
                  .keys = at::empty_like(in.keys),
                  .values = needs[2] && one && c.defined() ? at::empty_like(in.values) : Tensor(),
                  .v = in.empty({in.batch, in.heads, in.attention}),
                  .bias = needs[4] ? in.empty({in.batch, in.heads, in.queries, in.source}) : Tensor()};
  if (remake || needs[0] || needs[1] || needs[3] || needs[4] || grads.values.defined())
    dispatch_memory(in.keys, [&](auto t, auto e) {
      backward<decltype(t), decltype(e)>(in, positions, w, remake, c, to_compute(grad_weights), grads);
    });
  auto give = [&](bool need, const Tensor& grad, const Tensor& like) {
    return need ? converted(grad.reshape(like.sizes()), like.scalar_type()) : nothing(query);
  };
  Tensor grad_values = grads.values;
  if (needs[2] && !grad_values.defined()) {
    int64_t rows = in.queries * in.heads;
    ReleaseAten all_threads;  // a large product
    grad_values = c.defined()
                      ? at::bmm(w.view({in.batch, rows, in.source}).transpose(1, 2), c.view({in.batch, rows, in.width}))
                      : zeros(in.values.sizes(), in.values.options());
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
