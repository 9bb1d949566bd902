// A softmax over words whose logits stand row by row of the weight: lanes are rows of the batch, so that nothing is
// summed across lanes but the bias's gradient.

namespace {

template <class T>
void add_words(const T* logits, int64_t stride, const T* bias, int64_t words, int64_t rows, T* maximum, T* sum,
               T* total) {
  constexpr int64_t most = 128;  // rows at a time; their numbers stay in the first-level cache
  constexpr int64_t few = 16;
  T before[most], sums[most];
  for (; rows > 0; rows -= most, logits += most, maximum += most, sum += most, total += total ? most : 0) {
    int64_t n = rows < most ? rows : most;
    auto each = [&](int64_t from, int64_t to, const auto& f) {
      for (int64_t w = from; w < to; w++) {
        const T *x = logits + w * stride, b = bias ? bias[w] : T(0);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) f(j, x[j] + b);
      }
    };
    for (int64_t j = 0; j < n; j++) before[j] = maximum[j], sums[j] = T(0);
    each(0, words, [&](int64_t j, T y) { maximum[j] = y > maximum[j] ? y : maximum[j]; });
    each(0, words, [&](int64_t j, T y) { sums[j] += math::exp(y - maximum[j]); });
#pragma omp simd
    for (int64_t j = 0; j < n; j++) sum[j] = sum[j] * math::exp(before[j] - maximum[j]) + sums[j];
    if (!total) continue;
    // In parts of a few words: one long sum of logits that are all of a size would lose digits.
    for (int64_t w = 0; w < words; w += few) {
      for (int64_t j = 0; j < n; j++) sums[j] = T(0);
      each(w, w + few < words ? w + few : words, [&](int64_t j, T y) { sums[j] += y; });
      for (int64_t j = 0; j < n; j++) total[j] += sums[j];
    }
  }
}

template <class T>
void words_backward(T* logits, int64_t stride, const T* bias, int64_t words, int64_t rows, const T* maximum,
                    const T* scale, T less, T* grad_bias) {
  for (int64_t w = 0; w < words; w++, logits += stride) {
    T b = bias ? bias[w] : T(0), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < rows; j++) {
      T grad = math::exp(logits[j] + b - maximum[j]) * scale[j] - less;
      logits[j] = grad;
      sum += grad;
    }
    grad_bias[w] += sum;
  }
}

}  // namespace
