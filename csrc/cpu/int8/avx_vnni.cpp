// Products of 8 bits for AVX-VNNI, which processors without AVX-512 have.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>  // before the target: nothing of a shared header may be compiled for it
#include <cstring>
#include <limits>
#include <utility>

#include "int8.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avxvnni")
#endif
#include "../../math/activation.h"

#define S2S_INT8_NAME "avx_vnni"
namespace s2s::cpu::int8_avx_vnni {
namespace {

constexpr int kRows = 6, kPanels = 1, kFewRows = 2, kFewRowsPanels = 2;
struct Sums {
  __m256i low, high;
};
using Line = Sums;
using Input = __m256i;

S2S_FORMULA __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
S2S_FORMULA void store(int32_t* to, __m256i x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x); }

S2S_FORMULA Line load_line(const int8_t* from) { return {load(from), load(from + 32)}; }
S2S_FORMULA Input load_input(const uint8_t* from) {
  int32_t bytes;
  std::memcpy(&bytes, from, sizeof(bytes));
  return _mm256_set1_epi32(bytes);
}
S2S_FORMULA void add(Sums& sums, Input input, const Line& line) {
  sums.low = _mm256_dpbusd_avx_epi32(sums.low, input, line.low);
  sums.high = _mm256_dpbusd_avx_epi32(sums.high, input, line.high);
}
S2S_FORMULA void finish(const Sums& sums, const int32_t* less, int32_t* to) {
  store(to, _mm256_add_epi32(sums.low, load(less)));
  store(to + 8, _mm256_add_epi32(sums.high, load(less + 8)));
}

}  // namespace
#include "kernels.h"
}  // namespace s2s::cpu::int8_avx_vnni
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
