// The loops of int8.h, included once per instruction set inside a namespace of its own, after what they are made of:
//   Sums: of a panel's outputs; Line: 64 bytes of a weight; Input: 4 bytes of a row, for every output
//   load_line, load_input, add(sums, input, line), finish(sums, less, to 16 int32)
//   kRows, kPanels: of a tile; kFewRows, kFewRowsPanels: of one with few rows, whose loads take the time
#pragma once

namespace {

S2S_FORMULA int32_t to_integer(float x) {  // to the nearest, of two the even one
#ifdef __clang__
  return static_cast<int32_t>(__builtin_nearbyintf(x));
#else
  return __builtin_irintf(x);
#endif
}

void quantize(int64_t m, int64_t k, const float* x, int64_t x_stride, uint8_t* rows, int64_t stride, float* scales) {
  constexpr int32_t infinity = 0x7f800000;
  for (int64_t i = 0; i < m; i++, x += x_stride, rows += stride) {
    int32_t most = 0;  // of the numbers' bits, which are ordered as their sizes are, NaN above all
#pragma omp simd reduction(max : most)
    for (int64_t p = 0; p < k; p++) {
      int32_t size = math::float_to_bits(x[p]) & 0x7fffffff;
      most = size > most ? size : most;
    }
    float largest = math::bits_to_float(most), inverse = 0;
    scales[i] = most < infinity ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    if (most < infinity && largest >= 0x1p-100f) inverse = 127.0f / largest, scales[i] = largest / 127.0f;
#pragma omp simd
    for (int64_t p = 0; p < k; p++) rows[p] = static_cast<uint8_t>(to_integer(x[p] * inverse) + 128);
    for (int64_t p = k; p % kInt8Group; p++) rows[p] = 128;
  }
}

// `rows` rows with `panels` panels, of which `width` columns are wanted.
template <int rows, int panels>
void tile(int64_t groups, const uint8_t* x, int64_t stride, const float* row_scales, const int8_t* w,
          const int32_t* less, const float* scales, float* c, int64_t ldc, int64_t width) {
  int64_t panel = groups * kInt8Line;
  Sums sum[rows][panels];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < panels; j++) sum[i][j] = Sums{};
  for (int64_t g = 0; g < groups; g++) {
    Line line[panels];
#pragma GCC unroll 8
    for (int j = 0; j < panels; j++) {
      line[j] = load_line(w + j * panel + g * kInt8Line);
      __builtin_prefetch(w + (panels + j) * panel + g * kInt8Line);  // the next tile's
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      Input input = load_input(x + i * stride + g * kInt8Group);
#pragma GCC unroll 8
      for (int j = 0; j < panels; j++) add(sum[i][j], input, line[j]);
    }
  }
  // Moved there once: an array that is indexed at run time lies in memory, and its sums would be stored in every turn.
  Sums done[rows][panels];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < panels; j++) done[i][j] = sum[i][j];
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < panels; j++) {
      int32_t sums[kInt8Panel];
      finish(done[i][j], less + j * kInt8Panel, sums);
      const float* scale = scales + j * kInt8Panel;
      float* to = c + i * ldc + j * kInt8Panel;
      if ((j + 1) * kInt8Panel <= width) {
#pragma omp simd
        for (int64_t l = 0; l < kInt8Panel; l++) to[l] = static_cast<float>(sums[l]) * (row_scales[i] * scale[l]);
      } else {
        for (int64_t l = 0; l < width - j * kInt8Panel; l++)
          to[l] = static_cast<float>(sums[l]) * (row_scales[i] * scale[l]);
      }
    }
}

using Tile = void (*)(int64_t, const uint8_t*, int64_t, const float*, const int8_t*, const int32_t*, const float*,
                      float*, int64_t, int64_t);

// The tiles of one row, of two, and so on.
template <int panels, class Rows>
struct Tiles;
template <int panels, int... below>
struct Tiles<panels, std::integer_sequence<int, below...>> {
  static constexpr Tile of[] = {tile<below + 1, panels>...};
};

template <int panels, int most>
void product_of_panels(int64_t m, int64_t width, int64_t groups, const uint8_t* rows, int64_t stride,
                       const float* row_scales, const int8_t* w, const int32_t* less, const float* scales, float* c,
                       int64_t ldc) {
  for (int64_t row = 0; row < m;) {
    // As even as can be: 13 rows are 7 + 6, not 12 + 1.
    int64_t tiles = (m - row + most - 1) / most, count = (m - row + tiles - 1) / tiles;
    Tiles<panels, std::make_integer_sequence<int, most>>::of[count - 1](
        groups, rows + row * stride, stride, row_scales + row, w, less, scales, c + row * ldc, ldc, width);
    row += count;
  }
}

void product(int64_t m, int64_t n, int64_t k, const uint8_t* rows, int64_t stride, const float* row_scales,
             const int8_t* panels, const int32_t* less, const float* scales, float* c, int64_t ldc) {
  int64_t groups = int8_groups(k), count = int8_panels(n), step = m <= kFewRows ? kFewRowsPanels : kPanels;
  for (int64_t p = 0; p < count;) {
    int64_t taken = count - p >= step ? step : 1, column = p * kInt8Panel;
    auto run = taken == 1      ? product_of_panels<1, kRows>
               : m <= kFewRows ? product_of_panels<kFewRowsPanels, kFewRows>
                               : product_of_panels<kPanels, kRows>;
    run(m, n - column, groups, rows, stride, row_scales, panels + p * groups * kInt8Line, less + column,
        scales + column, c + column, ldc);
    p += taken;
  }
}

}  // namespace

extern const Int8Kernels int8{.name = S2S_INT8_NAME, .quantize = quantize, .product = product};
