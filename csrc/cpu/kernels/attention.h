// Additive attention of one row of the batch (and head): scores, softmax, context, and their gradients.

// Sizes and pointers of a Source stand in locals: read through the reference inside a loop, they would keep it from
// being vectorised.

namespace {

template <class T>
T largest(const T* x, int64_t n) {
  T most = 0;
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < n; j++) {
    T size = x[j] < T(0) ? -x[j] : x[j];
    most = size > most ? size : most;
  }
  return most;
}

template <class T>
void exp_double(const T* x, T* out, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) out[j] = math::exp(T(2) * x[j]);
}

// tanh itself, not the factored form: all weights, contexts and states follow from the scores, and its rounding is
// half as large. Gradients can take the faster form.
template <class T>
void scores(const Source<T>& s, const T* query, T* out) {
  const T* v = s.v;
  int64_t n = s.attention;
  for (int64_t i = 0; i < s.count; i++) {
    const T* key = s.keys + s.positions[i] * s.key_stride;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += v[j] * math::tanh(query[j] + key[j]);
    out[i] = sum;
  }
}

template <class T>
void softmax(T* x, const int64_t* positions, int64_t count, const T* bias) {
  if (count == 0) return;
  if (bias)
    for (int64_t i = 0; i < count; i++) x[i] += bias[positions[i]];
  T most = x[0], total = 0;
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
  if (bias && most == -std::numeric_limits<T>::infinity()) {  // a bias that leaves nothing: an empty row
    for (int64_t i = 0; i < count; i++) x[i] = T(0);
    return;
  }
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < count; i++) {
    x[i] = math::exp(x[i] - most);
    total += x[i];
  }
  T scale = T(1) / total;
#pragma omp simd
  for (int64_t i = 0; i < count; i++) x[i] *= scale;
}

template <class T>
void context(const Source<T>& s, const T* weights, T* out) {
  int64_t n = s.width;
  for (int64_t j = 0; j < n; j++) out[j] = T(0);
  int64_t i = 0;
  for (; i + 4 <= s.count; i += 4) {  // four rows at once: a quarter of the traffic to `out`
    const int64_t* p = s.positions + i;
    const T *a = s.values + p[0] * s.value_stride, *b = s.values + p[1] * s.value_stride;
    const T *c = s.values + p[2] * s.value_stride, *d = s.values + p[3] * s.value_stride;
    T w0 = weights[i], w1 = weights[i + 1], w2 = weights[i + 2], w3 = weights[i + 3];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) out[j] += (w0 * a[j] + w1 * b[j]) + (w2 * c[j] + w3 * d[j]);
  }
  for (; i < s.count; i++) {
    const T* value = s.values + s.positions[i] * s.value_stride;
    T w = weights[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) out[j] += w * value[j];
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

template <class T>
void values_dot(const Source<T>& s, const T* grad_context, T* grad_weights) {
  int64_t n = s.width;
  for (int64_t i = 0; i < s.count; i++) {
    const T* value = s.values + s.positions[i] * s.value_stride;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += value[j] * grad_context[j];
    grad_weights[i] += sum;
  }
}

template <class T>
void softmax_backward(const T* weights, const int64_t* positions, int64_t count, T* grad) {
  T mean = 0;
  for (int64_t i = 0; i < count; i++) mean += weights[positions[i]] * grad[i];
  for (int64_t i = 0; i < count; i++) grad[i] = weights[positions[i]] * (grad[i] - mean);
}

template <class T>
void query_backward(const Source<T>& s, const Queries<T>& queries, int64_t t, const T* grad_scores, T* grad_query,
                    T* scratch) {
  const T* v = s.v;
  int64_t n = s.attention;
  if (math::can_factor(queries.largest[t], s.largest)) {
    const T* query = queries.table + t * n;
    for (int64_t j = 0; j < n; j++) scratch[j] = T(0);
    for (int64_t i = 0; i < s.count; i += 2) {
      bool odd = i + 1 == s.count;
      const T *key_1 = s.table + i * n, *key_2 = odd ? key_1 : key_1 + n;
      T grad_1 = grad_scores[i], grad_2 = odd ? T(0) : grad_scores[i + 1];
#pragma omp simd
      for (int64_t j = 0; j < n; j++) {
        T x_1 = query[j] * key_1[j], x_2 = query[j] * key_2[j];
        auto r = math::reciprocals(T(1) + x_1, T(1) + x_2);
        scratch[j] +=
            grad_1 * math::factored_derivative(x_1, r.first) + grad_2 * math::factored_derivative(x_2, r.second);
      }
    }
#pragma omp simd
    for (int64_t j = 0; j < n; j++) grad_query[j] += T(4) * v[j] * scratch[j];
    return;
  }
  const T* query = queries.queries + t * queries.stride;
  for (int64_t i = 0; i < s.count; i++) {
    const T* key = s.keys + s.positions[i] * s.key_stride;
    T grad = grad_scores[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) grad_query[j] += grad * v[j] * math::tanh_derivative(query[j] + key[j]);
  }
}

// One position against two queries.
template <class T>
void key_pair(const T* query_1, const T* query_2, T grad_1, T grad_2, const T* key, T* grad_key, T* grad_v, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    T x_1 = query_1[j] * key[j], x_2 = query_2[j] * key[j];
    auto r = math::reciprocals(T(1) + x_1, T(1) + x_2);
    grad_key[j] += grad_1 * math::factored_derivative(x_1, r.first) + grad_2 * math::factored_derivative(x_2, r.second);
    grad_v[j] += grad_1 * math::factored_tanh(x_1, r.first) + grad_2 * math::factored_tanh(x_2, r.second);
  }
}

template <class T>
void keys_backward(const Source<T>& s, const Queries<T>& queries, const T* grad_scores, int64_t score_stride,
                   T* grad_keys, T* grad_v, T* scratch) {
  const T* v = s.v;
  int64_t n = s.attention;
  // grad_v of each position is summed by itself first: one long sum would lose digits.
  T *grad_key = scratch, *plain = scratch + n, *grad_v_here = plain + n;
  for (int64_t i = 0; i < s.count; i++) {
    const T* key = s.keys + s.positions[i] * s.key_stride;
    const T* row = s.table + i * n;
    const T* grads = grad_scores + i;
    for (int64_t j = 0; j < n; j++) grad_key[j] = plain[j] = grad_v_here[j] = T(0);
    int64_t waiting = -1;  // a factored query that waits for its partner
    for (int64_t t = 0; t < queries.count; t++) {
      T grad = grads[t * score_stride];
      if (!math::can_factor(queries.largest[t], s.largest)) {
        const T* query = queries.queries + t * queries.stride;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
          plain[j] += grad * v[j] * math::tanh_derivative(query[j] + key[j]);
          grad_v_here[j] += grad * math::tanh(query[j] + key[j]);
        }
      } else if (waiting < 0) {
        waiting = t;
      } else {
        key_pair(queries.table + waiting * n, queries.table + t * n, grads[waiting * score_stride], grad, row, grad_key,
                 grad_v_here, n);
        waiting = -1;
      }
    }
    if (waiting >= 0) {
      const T* query = queries.table + waiting * n;
      key_pair(query, query, grads[waiting * score_stride], T(0), row, grad_key, grad_v_here, n);
    }
    T* out = grad_keys + s.positions[i] * s.key_stride;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      out[j] = T(4) * v[j] * grad_key[j] + plain[j];
      grad_v[j] += grad_v_here[j];
    }
  }
}

}  // namespace
