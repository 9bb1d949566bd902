// Skinny matrix products against weights packed once: panels of two vectors' width, all accumulators in registers.
// A library's product at these shapes (a few rows, and the weights repacked at every call) runs at half the rate.
#pragma once

namespace {

template <class T>
struct Vector {
  typedef T type __attribute__((vector_size(S2S_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int lanes = S2S_VECTOR_BYTES / sizeof(T);
};

// Elements of A and B, and what their products are summed in.
template <class E>
struct Element {
  using Sum = E;
};

// By value: clang takes a reference to a vector for an aligned one.
template <class V, class E, class B>
S2S_FORMULA V add_product(V sum, E x, B b) {
  return sum + x * b;
}

#ifdef S2S_PAIRS
template <>
struct Element<Pair> {
  using Sum = float;
};

S2S_FORMULA Vector<float>::type add_product(Vector<float>::type sum, Pair x, Vector<Pair>::type b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(x), (__m512bh)b);
}
#endif

constexpr int kVectors = 2;  // vectors in a panel's row

template <class T>
constexpr int kPanel = kVectors * Vector<T>::lanes;

// How far ahead of a panel's row the next are fetched. The processor's own prefetch waits while a second tile of rows
// reads a panel again; this one then fetches the next panel. Measured with weights that the second-level cache does not
// hold: 1.15 times as fast from 1 to 4 KiB, less nearer and further.
constexpr int kBytesAhead = 2048, kLine = 64;
// With fewer rows the loads, not the sums, take the time.
constexpr int kFewestToFetchFor = 6;

// Sums that must be under way at a time, or each waits for the one before it.
constexpr int kChains = 8;
// Panels that so few rows take at once, so that there are as many.
constexpr int64_t panels_at_once(int64_t rows) {
  return rows < 2 ? kChains / kVectors : rows < kChains / kVectors ? 2 : 1;
}

// C (rows, panels) of panels one after the other, of A or of its transpose. `from`: what is added to the product, rows
// from_stride apart (0: a bias), or null. It comes last: rounding k sums at the size of a large C would lose digits of
// a small product.
template <class E, bool transposed, int rows, int64_t panels, class T = typename Element<E>::Sum>
void tile(int64_t k, const E* a, int64_t lda, const E* packed, T* c, int64_t ldc, const T* from, int64_t from_stride) {
  using V = typename Vector<T>::type;
  using B = typename Vector<E>::type;
  constexpr int lanes = Vector<T>::lanes, vectors = static_cast<int>(panels) * kVectors;
  V sum[rows][vectors];
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < vectors; j++) sum[i][j] = V{};
  for (int64_t p = 0; p < k; p++) {
    B b[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
      b[j] = *reinterpret_cast<const B*>(packed + (j / kVectors * k + p) * kPanel<T> + j % kVectors * lanes);
    if constexpr (rows >= kFewestToFetchFor) {
#pragma GCC unroll 2
      for (int at = 0; at < kVectors * S2S_VECTOR_BYTES; at += kLine)
        __builtin_prefetch(reinterpret_cast<const char*>(packed + p * kPanel<T>) + kBytesAhead + at);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      E x = transposed ? a[p * lda + i] : a[i * lda + p];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] = add_product(sum[i][j], x, b[j]);
    }
  }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < vectors; j++) {
      if (from) sum[i][j] += *reinterpret_cast<const V*>(from + i * from_stride + j * lanes);
      *reinterpret_cast<V*>(c + i * ldc + j * lanes) = sum[i][j];
    }
}

template <class E, class T>
using Tile = void (*)(int64_t, const E*, int64_t, const E*, T*, int64_t, const T*, int64_t);

// The tiles of one row, of two, and so on.
template <class E, bool transposed, class Rows>
struct Tiles;
template <class E, bool transposed, int... below>
struct Tiles<E, transposed, std::integer_sequence<int, below...>> {
  static constexpr Tile<E, typename Element<E>::Sum> of[] = {tile<E, transposed, below + 1, 1>...};
  static constexpr Tile<E, typename Element<E>::Sum> wide[] = {
      tile<E, transposed, below + 1, panels_at_once(below + 1)>...};
};

template <class E, bool transposed, class T = typename Element<E>::Sum>
void gemm(int64_t m, int64_t n, int64_t k, const E* a, int64_t lda, const E* packed, T* c, int64_t ldc, const T* bias,
          bool accumulate) {
  constexpr int64_t panel = kPanel<T>;
  using Rows = Tiles<E, transposed, std::make_integer_sequence<int, S2S_TILE_ROWS>>;
  int64_t column = 0;
  if (m > 0 && m < kChains / kVectors)
    for (int64_t together = panels_at_once(m) * panel; column + together <= n; column += together) {
      const T* from = accumulate ? c + column : bias ? bias + column : nullptr;
      Rows::wide[m - 1](k, a, lda, packed + column * k, c + column, ldc, from, accumulate ? ldc : 0);
    }
  packed += column * k;
  for (; column < n; column += panel, packed += panel * k) {
    int64_t width = n - column < panel ? n - column : panel;
    for (int64_t row = 0; row < m;) {
      // As even as can be: 13 rows are 7 + 6, not 12 + 1.
      int64_t tiles = (m - row + S2S_TILE_ROWS - 1) / S2S_TILE_ROWS;
      int64_t rows = (m - row + tiles - 1) / tiles;
      auto compute = Rows::of[rows - 1];
      const E* a_tile = a + row * (transposed ? 1 : lda);
      T* c_tile = c + row * ldc + column;
      const T* from = accumulate ? c_tile : bias ? bias + column : nullptr;
      int64_t from_stride = accumulate ? ldc : 0;
      if (width == panel) {
        compute(k, a_tile, lda, packed, c_tile, ldc, from, from_stride);
      } else {  // the last, narrower panel goes through a full one on the stack
        T edge[S2S_TILE_ROWS * panel];
        for (int64_t i = 0; i < rows; i++)
          for (int64_t j = 0; j < panel; j++)
            edge[i * panel + j] = from && j < width ? from[i * from_stride + j] : T(0);
        compute(k, a_tile, lda, packed, edge, panel, edge, panel);
        for (int64_t i = 0; i < rows; i++)
          for (int64_t j = 0; j < width; j++) c_tile[i * ldc + j] = edge[i * panel + j];
      }
      row += rows;
    }
  }
}

#ifdef __clang__
#define S2S_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define S2S_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a < b){__VA_ARGS__})
#endif

// Rows h apart of a square trade their off-diagonal blocks of h: with h from half the lanes down to 1, a transposition.
template <class T, int h, int... lane>
S2S_FORMULA void transpose(typename Vector<T>::type* rows, std::integer_sequence<int, lane...> all) {
  constexpr int lanes = sizeof...(lane);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; i++) {
    if (i & h) continue;
    auto a = rows[i], b = rows[i + h];
    rows[i] = S2S_SHUFFLE(a, b, (lane & h ? lanes + lane - h : lane)...);
    rows[i + h] = S2S_SHUFFLE(a, b, (lane & h ? lanes + lane : lane + h)...);
  }
  if constexpr (h > 1) transpose<T, h / 2>(rows, all);
}

template <class T>
void pack(const T* from, int64_t k_stride, int64_t n_stride, int64_t k, int64_t n, T* out) {
  using V = typename Vector<T>::type;
  constexpr int64_t panel = kPanel<T>, lanes = Vector<T>::lanes;
  if (n < panel)
    for (int64_t i = 0; i < k * panel; i++) out[i] = T(0);
  if (n_stride == 1 && n == panel) {  // in whole vectors
    for (int64_t p = 0; p < k; p++)
      for (int64_t j = 0; j < panel; j++) out[p * panel + j] = from[p * k_stride + j];
    return;
  }
  int64_t p = 0;
  if (k_stride == 1 && n == panel)  // in squares of vectors
    for (; p + lanes <= k; p += lanes)
      for (int64_t j = 0; j < panel; j += lanes) {
        V rows[lanes];
        for (int i = 0; i < lanes; i++) rows[i] = *reinterpret_cast<const V*>(from + p + (j + i) * n_stride);
        transpose<T, lanes / 2>(rows, std::make_integer_sequence<int, lanes>());
        for (int i = 0; i < lanes; i++) *reinterpret_cast<V*>(out + (p + i) * panel + j) = rows[i];
      }
  for (; p < k; p++)
    for (int64_t j = 0; j < n; j++) out[p * panel + j] = from[p * k_stride + j * n_stride];
}

}  // namespace
