// Additive attention of one row of the batch (and head): scores, softmax, context, and their gradients.

#include "gemm.h"
#include "half.h"

// Sizes and pointers of a Source stand in locals: read through the reference inside a loop, they would keep it from
// being vectorised.

namespace {

template <class T, class E>
void scores(const Source<T, E>& s, const T* query, T* out) {
  const T* v = s.v;
  int64_t n = s.attention;
  for (int64_t i = 0; i < s.count; i++) {
    const E* key = s.keys + s.positions[i] * s.key_stride;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += math::additive_score(v[j], query[j], load(key[j]));
    out[i] = sum;
  }
}

template <class T>
void softmax(T* x, const int64_t* positions, int64_t count, const T* bias) {
  if (count == 0) return;
  if (bias)
    for (int64_t i = 0; i < count; i++) x[i] += bias[positions[i]];
  T most = x[0];
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
  if (most == -std::numeric_limits<T>::infinity()) {  // nothing that is larger: an empty row, or NaN
    T sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i];
    T weight = sum == most ? T(0) : sum;
    for (int64_t i = 0; i < count; i++) x[i] = weight;
    return;
  }
  double all = 0;
  for (int64_t first = 0; first < count; first += kTogether) {
    int64_t last = first + kTogether < count ? first + kTogether : count;
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = first; i < last; i++) {
      x[i] = math::exp(x[i] - most);
      total += x[i];
    }
    all += total;
  }
  T scale = static_cast<T>(1 / all);
#pragma omp simd
  for (int64_t i = 0; i < count; i++) x[i] *= scale;
}

template <class T, class E>
void context(const Source<T, E>& s, const T* weights, T* out) {
  int64_t n = s.width;
  for (int64_t j = 0; j < n; j++) out[j] = T(0);
  int64_t i = 0;
  for (; i + 4 <= s.count; i += 4) {  // four rows at once: a quarter of the traffic to `out`
    const int64_t* p = s.positions + i;
    const E *a = s.values + p[0] * s.value_stride, *b = s.values + p[1] * s.value_stride;
    const E *c = s.values + p[2] * s.value_stride, *d = s.values + p[3] * s.value_stride;
    T w0 = weights[i], w1 = weights[i + 1], w2 = weights[i + 2], w3 = weights[i + 3];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) out[j] += (w0 * load(a[j]) + w1 * load(b[j])) + (w2 * load(c[j]) + w3 * load(d[j]));
  }
  for (; i < s.count; i++) {
    const E* value = s.values + s.positions[i] * s.value_stride;
    T w = weights[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) out[j] += w * load(value[j]);
  }
}

template <class T>
void scatter(T* row, const int64_t* positions, int64_t count, int64_t size) {
  // Backwards: position(i) >= i, so that nothing is overwritten before it has moved.
  int64_t end = size;
  for (int64_t i = count - 1; i >= 0; i--) {
    T x = row[i];
    for (int64_t j = positions[i] + 1; j < end; j++) row[j] = T(0);
    row[positions[i]] = x;
    end = positions[i];
  }
  for (int64_t j = 0; j < end; j++) row[j] = T(0);
}

template <class T>
void gather(const T* row, const int64_t* positions, int64_t count, T* compact) {
  for (int64_t i = 0; i < count; i++) compact[i] = row[positions[i]];
}

template <class T, class E>
void values_dot(const Source<T, E>& s, const T* grad_context, T* grad_weights) {
  int64_t n = s.width;
  for (int64_t i = 0; i < s.count; i++) {
    const E* value = s.values + s.positions[i] * s.value_stride;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += load(value[j]) * grad_context[j];
    grad_weights[i] += sum;
  }
}

template <class T, class E>
void outer(const T* a, const T* b, int64_t m, int64_t n, E* out) {
  for (int64_t i = 0; i < m; i++, out += n) {
    T x = a[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) store(x * b[j], &out[j]);
  }
}

// In double: a mean that is rounded, or of weights that do not quite sum to 1, is the same error at every position, and
// adds up in the gradient of the query, where all else cancels.
template <class T>
double weighted_mean(const T* weights, const int64_t* positions, int64_t count, const T* grad) {
  double all = 0, mass = 0;
#pragma omp simd reduction(+ : all, mass)
  for (int64_t i = 0; i < count; i++) {
    double weight = weights[positions[i]];
    all += weight * grad[i];
    mass += weight;
  }
  return mass == 0 ? 0 : all / mass;
}

template <class T>
void softmax_backward(const T* weights, const int64_t* positions, int64_t count, T* grad) {
  double mean = weighted_mean(weights, positions, count, grad);
#pragma omp simd
  for (int64_t i = 0; i < count; i++) grad[i] = weights[positions[i]] * static_cast<T>(grad[i] - mean);
}

// G: what the gradients of keys are written as.
template <class T, class E, class G, bool add>
void one_query_backward(const Source<T, E>& s, const T* query, const T* grad_scores, T* grad_query, G* grad_keys,
                        T* grad_v) {
  const T* v = s.v;
  int64_t n = s.attention;
  for (int64_t j = 0; j < n; j++) grad_query[j] = T(0);
  for (int64_t i = 0; i < s.count; i++) {
    const E* key = s.keys + s.positions[i] * s.key_stride;
    G* grad_key = grad_keys + s.positions[i] * s.key_stride;
    T grad = grad_scores[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      auto g = math::additive_backward(v[j], query[j], load(key[j]), grad);
      grad_query[j] += g.query;
      store(add ? load(grad_key[j]) + g.query : g.query, &grad_key[j]);
      grad_v[j] += g.v;
    }
  }
}

template <class T, class E>
void queries_backward(const Source<T, E>& s, const Queries<T>& queries, const T* grad_scores, int64_t score_stride,
                      T* grad_queries, E* grad_keys, T* grad_v, T* scratch) {
  const T* v = s.v;
  int64_t n = s.attention;
  // Of each position by itself first: in v's gradient one long sum would lose digits.
  T *sum_of_key = scratch, *sum_of_v = scratch + n;
  for (int64_t i = 0; i < s.count; i++) {
    const E* key = s.keys + s.positions[i] * s.key_stride;
    E* grad_key = grad_keys + s.positions[i] * s.key_stride;
    for (int64_t j = 0; j < n; j++) sum_of_key[j] = sum_of_v[j] = T(0);
    for (int64_t t = 0; t < queries.count; t++) {
      const T* query = queries.queries + t * queries.stride;
      T* grad_query = grad_queries + t * n;
      T grad = grad_scores[t * score_stride + i];
#pragma omp simd
      for (int64_t j = 0; j < n; j++) {
        auto g = math::additive_backward(v[j], query[j], load(key[j]), grad);
        grad_query[j] += g.query;
        sum_of_key[j] += g.query;
        sum_of_v[j] += g.v;
      }
    }
    for (int64_t j = 0; j < n; j++) {
      store(sum_of_key[j], &grad_key[j]);
      grad_v[j] += sum_of_v[j];
    }
  }
}

template <class T, class E>
void pack_indexed(const E* from, int64_t stride, const int64_t* index, bool by_k, int64_t k, int64_t n, T* out) {
  constexpr int64_t panel = kPanel<T>;
  for (int64_t p = 0; p < k; p++)
    for (int64_t j = 0; j < panel; j++)
      out[p * panel + j] = j >= n ? T(0) : load(by_k ? from[index[p] * stride + j] : from[index[j] * stride + p]);
}

}  // namespace
