// What search adds to the recurrences: products with few rows that read a weight as it lies in memory, and what is
// kept of logits instead of the logits.

#include "half.h"

namespace {

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// Lanes `index` of a and b, b's counted on from a's.
template <class T, int64_t... index>
S2S_FORMULA typename Vector<T>::type shuffle(typename Vector<T>::type a, typename Vector<T>::type b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, index...);
#else
  typedef Bits<T> Index __attribute__((vector_size(S2S_VECTOR_BYTES)));
  return __builtin_shuffle(a, b, Index{Bits<T>(index)...});
#endif
}

// The lanes in groups: those of each pair of groups are added, a's become even groups and b's odd ones.
template <class T, int64_t group, int64_t... i>
S2S_FORMULA typename Vector<T>::type fold(typename Vector<T>::type a, typename Vector<T>::type b,
                                          std::integer_sequence<int64_t, i...>) {
  constexpr int64_t lanes = sizeof...(i);
  return shuffle<T, (i / group % 2 * lanes + i / group / 2 * 2 * group + i % group)...>(a, b) +
         shuffle<T, (i / group % 2 * lanes + i / group / 2 * 2 * group + i % group + group)...>(a, b);
}

// The sums of the lanes of `count` vectors, a power of two; in registers, where one by one they would cost as much
// as a short product.
template <class T, int count, int group = 1>
S2S_FORMULA void lane_sums(typename Vector<T>::type* x, T* sums) {
  constexpr int lanes = Vector<T>::lanes;
  if constexpr (count > 1 && group < lanes) {
    typename Vector<T>::type folded[count / 2];
#pragma GCC unroll 8
    for (int j = 0; j < count / 2; j++)
      folded[j] = fold<T, group>(x[2 * j], x[2 * j + 1], std::make_integer_sequence<int64_t, lanes>());
    lane_sums<T, count / 2, 2 * group>(folded, sums);
  } else {  // each vector holds lanes / group parts of `group` sums
    for (int j = 0; j < count; j++) {
      T parts[lanes];
      *reinterpret_cast<typename Vector<T>::type*>(parts) = x[j];
      for (int l = group; l < lanes; l += group)
        for (int i = 0; i < group; i++) parts[i] += parts[l + i];
      for (int i = 0; i < group; i++) sums[j * group + i] = parts[i];
    }
  }
}

// How a tile reads: a number of vectors of a row and as many of a weight, whose lanes belong together.
template <class T, class W>
struct Reader {
  using V = typename Vector<T>::type;
  static constexpr int vectors = 1;
  static void row(const T* x, V* to) { to[0] = *reinterpret_cast<const V*>(x); }
  static void weight(const W* w, V* to) { row(w, to); }
  static T one(const W* w) { return *w; }
};

// bfloat16, the upper half of a float32, two in every 32 bits: the even ones and the odd ones.
template <>
struct Reader<float, uint16_t> {
  using V = Vector<float>::type;
  static constexpr int vectors = 2, lanes = Vector<float>::lanes;
  template <int64_t... i>
  static void split(const V& a, const V& b, V* to, std::integer_sequence<int64_t, i...>) {
    to[0] = shuffle<float, (2 * i)...>(a, b);
    to[1] = shuffle<float, (2 * i + 1)...>(a, b);
  }
  static void row(const float* x, V* to) {
    const V *a = reinterpret_cast<const V*>(x), *b = reinterpret_cast<const V*>(x + lanes);
    split(*a, *b, to, std::make_integer_sequence<int64_t, lanes>());
  }
  static void weight(const uint16_t* w, V* to) {
    typedef uint32_t Pairs __attribute__((vector_size(S2S_VECTOR_BYTES), aligned(2), may_alias));
    Pairs pairs = *reinterpret_cast<const Pairs*>(w);
    to[0] = reinterpret_cast<V>(pairs << 16);
    to[1] = reinterpret_cast<V>(pairs & 0xffff0000u);
  }
  static float one(const uint16_t* w) { return load(BFloat16{*w}); }
};

// The dot products of `rows` rows with `columns` rows of W.
template <class T, class W, int rows, int columns>
S2S_FORMULA void dot_tile(int64_t k, const T* a, int64_t lda, const W* w, T* c, int64_t ldc, const T* bias) {
  using V = typename Vector<T>::type;
  using Read = Reader<T, W>;
  constexpr int64_t step = Vector<T>::lanes * Read::vectors;
  V sum[rows][columns];
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < columns; j++) sum[i][j] = V{};
  int64_t p = 0;
  for (; p + step <= k; p += step) {
    V x[rows][Read::vectors];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) Read::row(a + i * lda + p, x[i]);
#pragma GCC unroll 8
    for (int j = 0; j < columns; j++) {
      V weight[Read::vectors];
      Read::weight(w + j * k + p, weight);
      __builtin_prefetch(w + (j + columns) * k + p);  // the next tile's: so many short streams outrun the hardware
#pragma GCC unroll 4
      for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int l = 0; l < Read::vectors; l++) sum[i][j] += x[i][l] * weight[l];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++) {
    T sums[columns];
    lane_sums<T, columns>(sum[i], sums);
    if (p < k)
      for (int j = 0; j < columns; j++)
        for (int64_t q = p; q < k; q++) sums[j] += a[i * lda + q] * Read::one(w + j * k + q);
    for (int j = 0; j < columns; j++) c[i * ldc + j] = bias ? sums[j] + bias[j] : sums[j];
  }
}

// Rows and columns of a tile: as many sums as there are registers for.
constexpr int kDotRows = S2S_TILE_ROWS == 12 ? 4 : 2;

template <class T, class W, int rows>
void dot_rows(int64_t n, int64_t k, const T* a, int64_t lda, const W* w, T* c, int64_t ldc, const T* bias) {
  constexpr int columns = rows <= kDotRows / 2 ? 8 : 4;
  int64_t j = 0;
  for (; j + columns <= n; j += columns)
    dot_tile<T, W, rows, columns>(k, a, lda, w + j * k, c + j, ldc, bias ? bias + j : nullptr);
  for (; j < n; j++) dot_tile<T, W, rows, 1>(k, a, lda, w + j * k, c + j, ldc, bias ? bias + j : nullptr);
}

template <class T, class W>
void dot(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const W* w, T* c, int64_t ldc, const T* bias) {
  constexpr int64_t block = 16;  // columns whose weights stay in the first-level cache for all rows
  for (int64_t column = 0; column < n; column += block) {
    int64_t width = n - column < block ? n - column : block;
    for (int64_t row = 0; row < m; row += kDotRows) {
      auto run = [&](auto rows) {
        dot_rows<T, W, rows>(width, k, a + row * lda, lda, w + column * k, c + row * ldc + column, ldc,
                             bias ? bias + column : nullptr);
      };
      switch (m - row) {
        case 1:
          run(std::integral_constant<int, 1>());
          break;
#if S2S_TILE_ROWS == 12
        case 2:
          run(std::integral_constant<int, 2>());
          break;
        case 3:
          run(std::integral_constant<int, 3>());
          break;
#endif
        default:
          run(std::integral_constant<int, kDotRows>());
      }
    }
  }
}

template <class T>
constexpr decltype(Kernels<T>::dot_bfloat16) dot_bfloat16() {
  if constexpr (sizeof(T) == sizeof(float))
    return dot<T, uint16_t>;
  else
    return nullptr;
}

template <class T>
void add_exponentials(const T* x, int64_t n, T* most, T* total) {
  T block = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : block)
  for (int64_t i = 0; i < n; i++) block = x[i] > block ? x[i] : block;
  if (block > *most) {
    *total *= math::exp(*most - block);
    *most = block;
  }
  T from = *most, sum = 0;
  if (from == -std::numeric_limits<T>::infinity()) return;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += math::exp(x[i] - from);
  *total += sum;
}

template <class T>
void keep_largest(const T* x, int64_t n, int64_t first, T* values, int64_t* ids, int64_t* count, int64_t capacity) {
  constexpr int64_t chunk = 64;
  for (int64_t begin = 0; begin < n; begin += chunk) {
    int64_t end = begin + chunk < n ? begin + chunk : n;
    T bound = *count < capacity ? -std::numeric_limits<T>::infinity() : values[capacity - 1];
    T most = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : most)
    for (int64_t i = begin; i < end; i++) most = x[i] > most ? x[i] : most;
    if (!(most > bound)) continue;
    for (int64_t i = begin; i < end; i++) {
      if (!(x[i] > bound)) continue;
      int64_t at = *count < capacity ? (*count)++ : capacity - 1;
      for (; at > 0 && values[at - 1] < x[i]; at--) values[at] = values[at - 1], ids[at] = ids[at - 1];
      values[at] = x[i], ids[at] = first + i;
      if (*count == capacity) bound = values[capacity - 1];
    }
  }
}

}  // namespace
