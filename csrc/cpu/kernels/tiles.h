// Products of bfloat16 pairs on the processor's matrix unit (AMX): of a tile of 16 rows of 16 pairs of A and 16 rows of
// 16 pairs of B, which is half a panel's width, one instruction makes 16 x 16 sums. Included once, where it is.
#include "gemm.h"

namespace {

constexpr int64_t kSide = 16, kRowsAtOnce = 2 * kSide;
constexpr int64_t kMostRows = 4 * kRowsAtOnce;  // that go through a panel, one tile after the other

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, first_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 to 3 are sums (upper left, upper right, lower left, lower right), 4 and 5 rows of A, 6 and 7 of B.
void configure(int64_t rows) {
  TileConfiguration tiles;
  int64_t upper = rows < kSide ? rows : kSide, lower = rows - upper;
  for (int64_t i = 0; i < 8; i++) {
    bool of_b = i >= 6, is_lower = i == 2 || i == 3 || i == 5;
    tiles.bytes[i] = 64;
    tiles.rows[i] = static_cast<uint8_t>(of_b ? kSide : is_lower ? (lower ? lower : 1) : upper);
  }
  _tile_loadconfig(&tiles);
}

// The sums += 16 pairs of each row, A's `lda` apart, B's a panel. The next are not fetched ahead, as gemm.h does: here
// that gains nothing.
template <bool two>
S2S_FORMULA void multiply(const Pair* a, int64_t lda, const Pair* b) {
  constexpr int64_t b_stride = kPanel<float> * sizeof(Pair);
  _tile_loadd(6, b, b_stride);
  _tile_loadd(4, a, lda * sizeof(Pair));
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, b + kSide, b_stride);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (two) {
    _tile_loadd(5, a + kSide * lda, lda * sizeof(Pair));
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

// What is left of k after whole tiles, as tiles: rows of 16 pairs, the last of them zeros.
struct Rest {
  alignas(64) Pair a[kMostRows * kSide], b[kSide * kPanel<float>];
};

// sums (rows, panel), `stride` apart, = a bias, if any, + A (rows, k) times a panel. rest_a, rest_b: null, or the rest.
template <bool two>
void multiply_panel(int64_t whole, const Pair* a, int64_t lda, const Pair* packed, const Pair* rest_a,
                    const Pair* rest_b, const float* bias, float* sums, int64_t stride) {
  constexpr int64_t panel = kPanel<float>;
  if (bias) {  // the same row for all of them
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + kSide, 0);
    if constexpr (two) {
      _tile_loadd(2, bias, 0);
      _tile_loadd(3, bias + kSide, 0);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (two) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t p = 0; p < whole; p += kSide) multiply<two>(a + p, lda, packed + p * panel);
  if (rest_a) multiply<two>(rest_a, kSide, rest_b);
  int64_t bytes = stride * sizeof(float);
  _tile_stored(0, sums, bytes);
  _tile_stored(1, sums + kSide, bytes);
  if constexpr (two) {
    _tile_stored(2, sums + kSide * stride, bytes);
    _tile_stored(3, sums + kSide * stride + kSide, bytes);
  }
}

// `depth`: the rows of a panel, of which k are read. All rows of A go through a panel while it is near.
void multiply_rows(int64_t m, int64_t n, int64_t k, const Pair* a, int64_t lda, const Pair* packed, int64_t depth,
                   float* c, int64_t ldc, const float* bias, bool accumulate) {
  constexpr int64_t panel = kPanel<float>;
  static_assert(panel == 2 * kSide);
  alignas(64) float sums[kRowsAtOnce * panel], bias_edge[panel];
  Rest rest{};
  int64_t whole = k / kSide * kSide, configured = 0;
  for (int64_t first = 0; first < m; first += kMostRows) {
    int64_t last = m - first < kMostRows ? m : first + kMostRows;
    for (int64_t i = first; i < last; i++)
      for (int64_t p = whole; p < k; p++) rest.a[(i - first) * kSide + p - whole] = a[i * lda + p];
    const Pair* b = packed;
    for (int64_t column = 0; column < n; column += panel, b += panel * depth) {
      int64_t width = n - column < panel ? n - column : panel;
      const float* from = bias ? bias + column : nullptr;
      if (from && width < panel) {
        for (int64_t j = 0; j < width; j++) bias_edge[j] = from[j];
        for (int64_t j = width; j < panel; j++) bias_edge[j] = 0;
        from = bias_edge;
      }
      for (int64_t i = 0; i < (k - whole) * panel; i++) rest.b[i] = b[whole * panel + i];
      for (int64_t row = first; row < last; row += kRowsAtOnce) {
        int64_t rows = last - row < kRowsAtOnce ? last - row : kRowsAtOnce;
        if (rows != configured) configure(configured = rows);
        bool direct = width == panel && !accumulate;
        float* to = c + row * ldc + column;
        const Pair* rest_a = whole < k ? rest.a + (row - first) * kSide : nullptr;
        auto compute = rows > kSide ? multiply_panel<true> : multiply_panel<false>;
        compute(whole, a + row * lda, lda, b, rest_a, rest.b, from, direct ? to : sums, direct ? ldc : panel);
        if (direct) continue;
        for (int64_t i = 0; i < rows; i++) {
#pragma omp simd
          for (int64_t j = 0; j < width; j++)
            to[i * ldc + j] = accumulate ? sums[i * panel + j] + to[i * ldc + j] : sums[i * panel + j];
        }
      }
    }
  }
  _tile_release();
}

void multiply_straight(int64_t m, int64_t n, int64_t k, const Pair* a, int64_t lda, const Pair* packed, float* c,
                       int64_t ldc, const float* bias, bool accumulate) {
  multiply_rows(m, n, k, a, lda, packed, k, c, ldc, bias, accumulate);
}

// A from its transpose (k, m): a block of it is turned first.
void multiply_transposed(int64_t m, int64_t n, int64_t k, const Pair* a, int64_t lda, const Pair* packed, float* c,
                         int64_t ldc, const float* bias, bool accumulate) {
  using V = Vector<Pair>::type;
  constexpr int64_t most = 2 * kRowsAtOnce, deepest = 8 * kSide, panel = kPanel<float>;
  alignas(64) Pair turned[most * deepest];
  for (int64_t row = 0; row < m; row += most)
    for (int64_t first = 0; first == 0 || first < k; first += deepest) {
      int64_t rows = m - row < most ? m - row : most, depth = k - first < deepest ? k - first : deepest;
      for (int64_t i = 0; i < rows; i += kSide)
        for (int64_t p = 0; p < depth; p += kSide) {
          V square[kSide];
          const Pair* from = a + (first + p) * lda + row + i;
          if (rows - i >= kSide && depth - p >= kSide) {
            for (int64_t q = 0; q < kSide; q++) square[q] = *reinterpret_cast<const V*>(from + q * lda);
          } else {
            alignas(64) Pair edge[kSide][kSide] = {};
            for (int64_t q = 0; q < kSide && p + q < depth; q++)
              for (int64_t j = 0; j < kSide && i + j < rows; j++) edge[q][j] = from[q * lda + j];
            for (int64_t q = 0; q < kSide; q++) square[q] = *reinterpret_cast<const V*>(edge[q]);
          }
          transpose<Pair, kSide / 2>(square, std::make_integer_sequence<int, kSide>());
          for (int64_t j = 0; j < kSide; j++) *reinterpret_cast<V*>(turned + (i + j) * deepest + p) = square[j];
        }
      multiply_rows(rows, n, depth, turned, deepest, packed + first * panel, k, c + row * ldc, ldc,
                    first == 0 ? bias : nullptr, accumulate || first > 0);
    }
}

}  // namespace

extern const Gemm<Pair, float> gemm_of_tiles, transposed_of_tiles;
const Gemm<Pair, float> gemm_of_tiles = multiply_straight, transposed_of_tiles = multiply_transposed;
