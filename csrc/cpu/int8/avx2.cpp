// Products of 8 bits for AVX2, in 16 bits: the instruction that multiplies bytes (vpmaddubsw) adds two products in 16
// bits, where they saturate.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>  // before the target: nothing of a shared header may be compiled for it
#include <cstring>
#include <limits>
#include <utility>

#include "int8.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include "../../math/activation.h"

#define S2S_INT8_NAME "avx2"
namespace s2s::cpu::int8_avx2 {
namespace {

constexpr int kRows = 3, kPanels = 1, kFewRows = 1, kFewRowsPanels = 2;
// Two sums an output, of each second pair of inputs; four outputs a register.
struct Sums {
  __m256i x[4];
};
using Line = Sums;
using Input = __m256i;

S2S_FORMULA Line load_line(const int8_t* from) {
  Line line;
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    line.x[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16 * i)));
  return line;
}
S2S_FORMULA Input load_input(const uint8_t* from) {
  int32_t bytes;
  std::memcpy(&bytes, from, sizeof(bytes));
  return _mm256_cvtepu8_epi16(_mm_set1_epi32(bytes));
}
S2S_FORMULA void add(Sums& sums, Input input, const Line& line) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) sums.x[i] = _mm256_add_epi32(sums.x[i], _mm256_madd_epi16(input, line.x[i]));
}
S2S_FORMULA void finish(const Sums& sums, const int32_t* less, int32_t* to) {
  for (int i = 0; i < 2; i++) {
    // Outputs 0 1 4 5 2 3 6 7 of these eight.
    __m256i mixed = _mm256_hadd_epi32(sums.x[2 * i], sums.x[2 * i + 1]);
    __m256i sum = _mm256_permute4x64_epi64(mixed, 0 | 2 << 2 | 1 << 4 | 3 << 6);
    __m256i minus = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(less + 8 * i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 8 * i), _mm256_add_epi32(sum, minus));
  }
}

}  // namespace
#include "kernels.h"
}  // namespace s2s::cpu::int8_avx2
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
