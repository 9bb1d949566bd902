// Products of bfloat16 pairs on the processor's matrix unit (AMX): of a tile of 16 rows of 16 pairs of A and 16 rows of
// 16 pairs of B, which is half a panel's width, one instruction makes 16 x 16 sums. Included once, where it is.
#include "gemm.h"

namespace {

constexpr int64_t kSide = 16, kRowsAtOnce = 2 * kSide;

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

// The sums += 16 pairs of each row, A's `lda` apart, B's a panel.
template <bool two>
S2S_FORMULA void multiply(const Pair* a, int64_t lda, const Pair* b) {
  constexpr int64_t b_stride = kPanel<float> * sizeof(Pair);
  if constexpr (two) {  // see gemm.h
#pragma GCC unroll 32
    for (int64_t at = 0; at < kSide * b_stride; at += kLine)
      __builtin_prefetch(reinterpret_cast<const char*>(b) + 2 * kBytesAhead + at);
  }
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

// What is left of k after whole tiles: rows of 16 pairs, the last of them zeros.
struct Rest {
  alignas(64) Pair a[kRowsAtOnce * kSide], b[kSide * kPanel<float>];
};

// sums (rows, panel) = A (rows, k) times a panel.
template <bool two>
void multiply_panel(int64_t k, const Pair* a, int64_t lda, const Pair* packed, Rest& rest, float* sums) {
  constexpr int64_t panel = kPanel<float>, stride = panel * sizeof(float);
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (two) {
    _tile_zero(2);
    _tile_zero(3);
  }
  int64_t p = 0;
  for (; p + kSide <= k; p += kSide) multiply<two>(a + p, lda, packed + p * panel);
  if (p < k) {
    for (int64_t i = 0; i < (k - p) * panel; i++) rest.b[i] = packed[p * panel + i];
    multiply<two>(rest.a, kSide, rest.b);
  }
  _tile_stored(0, sums, stride);
  _tile_stored(1, sums + kSide, stride);
  if constexpr (two) {
    _tile_stored(2, sums + kSide * panel, stride);
    _tile_stored(3, sums + kSide * panel + kSide, stride);
  }
}

// `depth`: the rows of a panel, of which k are read.
void multiply_rows(int64_t m, int64_t n, int64_t k, const Pair* a, int64_t lda, const Pair* packed, int64_t depth,
                   float* c, int64_t ldc, const float* bias, bool accumulate) {
  constexpr int64_t panel = kPanel<float>;
  static_assert(panel == 2 * kSide);
  alignas(64) float sums[kRowsAtOnce * panel];
  Rest rest{};
  int64_t whole = k / kSide * kSide;
  for (int64_t row = 0; row < m; row += kRowsAtOnce, a += kRowsAtOnce * lda, c += kRowsAtOnce * ldc) {
    int64_t rows = m - row < kRowsAtOnce ? m - row : kRowsAtOnce;
    if (row == 0 || rows < kRowsAtOnce) configure(rows);
    for (int64_t i = 0; i < rows && whole < k; i++)
      for (int64_t p = whole; p < k; p++) rest.a[i * kSide + p - whole] = a[i * lda + p];
    auto compute = rows > kSide ? multiply_panel<true> : multiply_panel<false>;
    const Pair* b = packed;
    for (int64_t column = 0; column < n; column += panel, b += panel * depth) {
      compute(k, a, lda, b, rest, sums);
      int64_t width = n - column < panel ? n - column : panel;
      for (int64_t i = 0; i < rows; i++) {
        float* to = c + i * ldc + column;
        const float *from = accumulate ? to : bias ? bias + column : nullptr, *sum = sums + i * panel;
#pragma omp simd
        for (int64_t j = 0; j < width; j++) to[j] = from ? sum[j] + from[j] : sum[j];
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
