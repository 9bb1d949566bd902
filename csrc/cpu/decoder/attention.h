// What one query of the decoder sees: one row of the batch, one head, one step; from the query to weights and context,
// and back.
#pragma once

#include <cmath>

#include "../../math/activation.h"
#include "../memory.h"
#include "inputs.h"

namespace s2s::cpu::decoder {

// Memory of a thread for one row at a time.
template <class T>
struct Scratch {
  Buffer<T> keys, grad_keys, panels;  // (S, A) and its packed form
  Buffer<T> history, grad_history;    // (C, S + K - 1): with zeros around
  Buffer<T> windows;                  // (S, K)
  Buffer<T> features, grad_features;  // (S, F), between the convolution and the dense layer
  Buffer<T> score, seen, grad_v;
};

// Weights so far of one row of the batch, as the next step reads them: (S) each.
template <class T>
struct History {
  const T *previous, *sum;  // null: zeros
  const T* moving;          // of the forward normalisation; null: all at position 0
};
template <class T>
struct HistoryGradient {
  T *previous = nullptr, *sum = nullptr;  // added to; null: not wanted
};

// B (k, n) in panels, for kernels<T>().gemm.
template <class T>
void pack_panels(const T* from, int64_t k_stride, int64_t n_stride, int64_t k, int64_t n, Buffer<T>& out) {
  const auto& kernel = kernels<T>();
  int64_t panels = (n + kernel.panel - 1) / kernel.panel;
  out.resize(panels * kernel.panel * k);
  for (int64_t p = 0; p < panels; p++)
    kernel.pack(from + p * kernel.panel * n_stride, k_stride, n_stride, k, std::min(kernel.panel, n - p * kernel.panel),
                out.data() + p * kernel.panel * k);
}

// gemm of any depth.
template <class T>
void deep_gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const Buffer<T>& panels, T* c, int64_t ldc,
               bool accumulate) {
  const auto& kernel = kernels<T>();
  if (k <= kDeepest) return kernel.gemm(m, n, k, a, lda, panels.data(), c, ldc, nullptr, accumulate);
  for (int64_t column = 0; column < n; column += kernel.panel)
    for (int64_t p = 0; p < k; p += kDeepest)
      kernel.gemm(m, std::min(kernel.panel, n - column), std::min(kDeepest, k - p), a + p, lda,
                  panels.data() + column * k + p * kernel.panel, c + column, ldc, nullptr, accumulate || p > 0);
}

template <class T, class E>
class Attention {
 public:
  Attention(const Inputs& in, const Positions& positions)
      : in_(in),
        positions_(positions),
        keys_(bits<E>(in.keys)),
        values_(bits<E>(in.values)),
        v_(data<T>(in.v)),
        b_score_(data<T>(in.b_score)),
        located_keys_(data<T>(in.located_keys)) {
    int64_t width = in.location_width();
    for (int64_t c = 0; c < in.channels; c++) {
      const T* w = data<T>(in.w_location) + c * in.kernel;
      int64_t row = in.channels * in.kernel;
      to_keys_.emplace_back(), to_history_.emplace_back();
      pack_panels(w, 1, row, in.kernel, width, to_keys_.back());
      pack_panels(w, row, 1, width, in.kernel, to_history_.back());
    }
    if (!in.w_dense.defined()) return;
    pack_panels(data<T>(in.w_dense), 1, in.filters, in.filters, in.attention, dense_);
    pack_panels(data<T>(in.w_dense), in.filters, 1, in.attention, in.filters, dense_back_);
  }

  // query (A) to weights (S), parts (S) and context (D). drop (S) may be null.
  void forward(int64_t b, int64_t n, const T* query, const History<T>& history, const T* drop, T* weights, T* parts,
               T* context, Scratch<T>& scratch) const {
    auto source = keys_of(b, n);
    const int64_t* at = source.positions;
    int64_t count = source.count;
    if (in_.score == Score::kDot) {
      std::fill_n(weights, count, T(0));
      source_kernels<T, E>().values_dot(source, query, weights);
    } else if (in_.kernel) {
      located(b, history, scratch);
      source_kernels<T, T>().scores(located_keys(source, scratch.keys.data()), query, weights);
    } else {
      source_kernels<T, E>().scores(source, query, weights);
    }
    if (b_score_)
      for (int64_t i = 0; i < count; i++) weights[i] += b_score_[n];
    if (in_.normalization == Normalization::kSigmoid) {
      // A softmax of their logarithms: the sigmoids' sum may be 0.
      for (int64_t i = 0; i < count; i++) {
        T e = weights[i];
        parts[i] = math::sigmoid(e);
        weights[i] = std::min(e, T(0)) - std::log1p(std::exp(-std::abs(e)));
      }
    }
    kernels<T>().softmax(weights, at, count, nullptr);
    if (in_.normalization == Normalization::kForward) {
      double sum = 0;
      for (int64_t i = 0; i < count; i++) {
        parts[i] = weights[i];
        sum += weights[i] *= moved(history.moving, at[i]);
      }
      for (int64_t i = 0; i < count && sum != 0; i++) weights[i] = static_cast<T>(weights[i] / sum);
    }
    if (parts && in_.normalization != Normalization::kSoftmax) kernels<T>().scatter(parts, at, count, in_.source);
    const T* seen = weights;
    if (drop) {
      scratch.seen.resize(count);
      for (int64_t i = 0; i < count; i++) scratch.seen[i] = weights[i] * drop[at[i]];
      seen = scratch.seen.data();
    }
    make_context(values_of(b, n), seen, context);
    kernels<T>().scatter(weights, at, count, in_.source);
  }

  // grad_context (D), and grad_weights (S, may be null) with later (S, may be null: what later steps read of these
  // weights), to grad_query (A). Added to: grad_keys (its row and head of (B, S, N, A)), grad_v (A), grad_location
  // (C, K, A or F), grad_dense (F, A), grad_b_score. A dot score's gradients are left in grad_scores (S) instead of
  // grad_keys.
  struct Gradients {
    T *query, *keys, *v, *location, *dense, *scores;
    double* b_score;
    HistoryGradient<T> history;
  };
  void backward(int64_t b, int64_t n, const T* query, const History<T>& history, const T* drop, const T* weights,
                const T* parts, const T* grad_context, const T* grad_weights, const T* later, const T* later_sum,
                const Gradients& grad, Scratch<T>& scratch) const {
    auto source = keys_of(b, n);
    const int64_t* at = source.positions;
    int64_t count = source.count;
    scratch.score.resize(in_.source);
    T* score = scratch.score.data();
    std::fill_n(score, count, T(0));
    source_kernels<T, E>().values_dot(values_of(b, n), grad_context, score);
    if (drop)
      for (int64_t i = 0; i < count; i++) score[i] *= drop[at[i]];
    for (const T* more : {grad_weights, later, later_sum})
      if (more)
        for (int64_t i = 0; i < count; i++) score[i] += more[at[i]];
    normalization_backward(source, history, weights, parts, score, grad.history.previous, grad.b_score);

    if (in_.score == Score::kDot) {
      weighted_keys(source, score, grad.query);
      if (!grad.scores) return;  // keys need no gradient
      std::copy_n(score, count, grad.scores);
      kernels<T>().scatter(grad.scores, at, count, in_.source);
      return;
    }
    scratch.grad_v.assign(in_.attention, T(0));
    if (in_.kernel && count > 0) {
      located(b, history, scratch);
      scratch.grad_keys.assign(in_.source * in_.attention, T(0));
      query_backward(located_keys(source, scratch.keys.data()), query, score, grad.query, scratch.grad_keys.data(),
                     scratch.grad_v.data());
      kernels<T>().add(grad.keys, scratch.grad_keys.data(), in_.source * in_.attention);
      location_backward(grad, scratch);
    } else {
      query_backward(source, query, score, grad.query, grad.keys, scratch.grad_v.data());
    }
    // v's gradient of a step is summed by itself first: one long sum would lose digits.
    kernels<T>().add(grad.v, scratch.grad_v.data(), in_.attention);
  }

 private:
  // The share that comes to a position from it and from the one before it: Zhang 2018, with a transition of a half.
  static T moved(const T* previous, int64_t position) {
    T here = previous ? previous[position] : T(position == 0);
    T before = position == 0 ? T(0) : previous ? previous[position - 1] : T(position == 1);
    return T(0.5) * here + T(0.5) * before + T(1e-8);
  }

  Source<T, E> keys_of(int64_t b, int64_t n) const {
    const E* keys = keys_ + b * in_.source * in_.asked() + n * in_.attention;
    return {.keys = keys,
            .key_stride = in_.asked(),
            .values = keys,  // so that the kernels of values make dot products with keys
            .value_stride = in_.asked(),
            .positions = positions_.begin(b),
            .count = positions_.count(b),
            .v = v_ ? v_ + n * in_.attention : nullptr,
            .attention = in_.attention,
            .width = in_.attention};
  }
  Source<T, E> values_of(int64_t b, int64_t n) const {
    int64_t row = in_.value_heads * in_.width;
    auto source = keys_of(b, n);
    source.values = values_ + b * in_.source * row + (in_.value_heads > 1 ? n * in_.width : 0);
    source.value_stride = row, source.width = in_.width;
    return source;
  }
  Source<T, T> located_keys(const Source<T, E>& s, const T* keys) const {
    return {.keys = keys,
            .key_stride = in_.attention,
            .values = keys,
            .value_stride = in_.attention,
            .positions = s.positions,
            .count = s.count,
            .v = s.v,
            .attention = s.attention,
            .width = s.attention};
  }

  // scratch.keys = keys + the convolution of the history, at every valid position.
  void located(int64_t b, const History<T>& history, Scratch<T>& scratch) const {
    auto source = keys_of(b, 0);
    int64_t width = in_.attention, padded = in_.source + in_.kernel - 1, margin = in_.kernel / 2;
    scratch.history.assign(in_.channels * padded, T(0));
    scratch.keys.resize(in_.source * width);
    const T* keys = located_keys_ + b * in_.source * width;
    for (int64_t i = 0; i < source.count; i++)
      std::copy_n(keys + source.positions[i] * width, width, scratch.keys.data() + source.positions[i] * width);
    if (source.count == 0) return;
    int64_t first = source.positions[0], rows = source.positions[source.count - 1] + 1 - first;
    if (source.count < rows)  // the product goes over what is not valid too
      for (int64_t i = 0, s = first; s < first + rows; s++) {
        if (source.positions[i] == s)
          i++;
        else
          std::fill_n(scratch.keys.data() + s * width, width, T(0));
      }
    T* made = scratch.keys.data();
    if (in_.filters) {
      scratch.features.assign(in_.source * in_.filters, T(0));
      made = scratch.features.data();
    }
    int64_t made_width = in_.location_width();
    for (int64_t c = 0; c < in_.channels; c++) {
      const T* from = c == 1 || in_.location == Location::kCumulative ? history.sum : history.previous;
      if (!from) continue;
      T* to = scratch.history.data() + c * padded;
      std::copy_n(from, in_.source, to + margin);
      deep_gemm(rows, made_width, in_.kernel, to + first, 1, to_keys_[c], made + first * made_width, made_width, true);
    }
    if (in_.filters)
      deep_gemm(rows, width, in_.filters, made + first * in_.filters, in_.filters, dense_,
                scratch.keys.data() + first * width, width, true);
  }

  // to (m, n) += a^T b of a (S, m), its rows lda apart, and b (S, n), which lies in panels.
  void add_outer(int64_t m, int64_t n, const T* a, int64_t lda, const Buffer<T>& b, T* to) const {
    const auto& kernel = kernels<T>();
    for (int64_t column = 0; column < n; column += kernel.panel)
      for (int64_t p = 0; p < in_.source; p += kDeepest)  // in parts: a long sum would lose digits
        kernel.gemm_transposed(m, std::min(kernel.panel, n - column), std::min(kDeepest, in_.source - p), a + p * lda,
                               lda, b.data() + column * in_.source + p * kernel.panel, to + column, n, nullptr, true);
  }

  // From scratch.grad_keys, zero where invalid, to the gradients of w_location, w_dense and of the history.
  void location_backward(const Gradients& grad, Scratch<T>& scratch) const {
    int64_t width = in_.location_width(), padded = in_.source + in_.kernel - 1, margin = in_.kernel / 2;
    const T* made = scratch.grad_keys.data();  // gradient of what the convolution made
    if (in_.filters) {
      if (grad.dense) {
        pack_panels(made, in_.attention, 1, in_.source, in_.attention, scratch.panels);
        add_outer(in_.filters, in_.attention, scratch.features.data(), in_.filters, scratch.panels, grad.dense);
      }
      scratch.grad_features.resize(in_.source * in_.filters);
      deep_gemm(in_.source, in_.filters, in_.attention, made, in_.attention, dense_back_, scratch.grad_features.data(),
                in_.filters, false);
      made = scratch.grad_features.data();
    }
    if (grad.location) pack_panels(made, width, 1, in_.source, width, scratch.panels);
    for (int64_t c = 0; c < in_.channels; c++) {
      bool sum = c == 1 || in_.location == Location::kCumulative;
      if (grad.location)
        add_outer(in_.kernel, width, scratch.history.data() + c * padded, 1, scratch.panels,
                  grad.location + c * in_.kernel * width);
      T* to = sum ? grad.history.sum : grad.history.previous;
      if (!to || in_.detach) continue;
      scratch.windows.resize(in_.source * in_.kernel);
      deep_gemm(in_.source, in_.kernel, width, made, width, to_history_[c], scratch.windows.data(), in_.kernel, false);
      scratch.grad_history.assign(padded, T(0));
      for (int64_t s = 0; s < in_.source; s++)
        kernels<T>().add(scratch.grad_history.data() + s, scratch.windows.data() + s * in_.kernel, in_.kernel);
      kernels<T>().add(to, scratch.grad_history.data() + margin, in_.source);
    }
  }

  // In place: compact gradients of the weights to those of the scores.
  void normalization_backward(const Source<T, E>& source, const History<T>& history, const T* weights, const T* parts,
                              T* grad, T* grad_previous, double* grad_b_score) const {
    const int64_t* at = source.positions;
    int64_t count = source.count;
    if (in_.normalization == Normalization::kSoftmax) return kernels<T>().softmax_backward(weights, at, count, grad);
    if (in_.normalization == Normalization::kSigmoid) {
      // In double: b_score's gradient is a sum in which most of these cancel.
      double mean = kernels<T>().weighted_mean(weights, at, count, grad);
      for (int64_t i = 0; i < count; i++) {
        double g = weights[at[i]] * (grad[i] - mean) * (1.0 - parts[at[i]]);
        if (grad_b_score) *grad_b_score += g;
        grad[i] = static_cast<T>(g);
      }
      return;
    }
    double sum = 0, mean = kernels<T>().weighted_mean(weights, at, count, grad);
    for (int64_t i = 0; i < count; i++) sum += parts[at[i]] * moved(history.moving, at[i]);
    for (int64_t i = 0; i < count; i++) {
      T part = parts[at[i]], each = sum == 0 ? T(0) : static_cast<T>((grad[i] - mean) / sum);
      grad[i] = each * moved(history.moving, at[i]);
      if (!grad_previous || !history.moving) continue;
      grad_previous[at[i]] += T(0.5) * each * part;
      if (at[i] > 0) grad_previous[at[i] - 1] += T(0.5) * each * part;
    }
    kernels<T>().softmax_backward(parts, at, count, grad);
  }

  // The sum of keys by the gradients of their scores.
  static void weighted_keys(const Source<T, E>& source, const T* grad, T* grad_query) {
    make_context(source, grad, grad_query);
  }

  const Inputs& in_;
  const Positions& positions_;
  const E *keys_, *values_;
  const T *v_, *b_score_, *located_keys_;
  // In panels: by channel (K, A or F) and back; (F, A) and back.
  std::vector<Buffer<T>> to_keys_, to_history_;
  Buffer<T> dense_, dense_back_;
};

}  // namespace s2s::cpu::decoder
