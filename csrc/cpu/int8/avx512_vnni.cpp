// Products of 8 bits for AVX-512 with VNNI: a line of a weight is one register.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>  // before the target: nothing of a shared header may be compiled for it
#include <cstring>
#include <limits>
#include <utility>

#include "int8.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512vnni,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif
#include "../../math/activation.h"

#define S2S_INT8_NAME "avx512_vnni"
namespace s2s::cpu::int8_avx512_vnni {
namespace {

constexpr int kRows = 12, kPanels = 2, kFewRows = 2, kFewRowsPanels = 4;
struct Sums {
  __m512i x;
};
using Line = Sums;
using Input = Sums;

S2S_FORMULA Line load_line(const int8_t* from) { return {_mm512_loadu_si512(from)}; }
S2S_FORMULA Input load_input(const uint8_t* from) {
  int32_t bytes;
  std::memcpy(&bytes, from, sizeof(bytes));
  return {_mm512_set1_epi32(bytes)};
}
S2S_FORMULA void add(Sums& sums, Input input, Line line) { sums.x = _mm512_dpbusd_epi32(sums.x, input.x, line.x); }
S2S_FORMULA void finish(const Sums& sums, const int32_t* less, int32_t* to) {
  _mm512_storeu_si512(to, _mm512_add_epi32(sums.x, _mm512_loadu_si512(less)));
}

}  // namespace
#include "kernels.h"
}  // namespace s2s::cpu::int8_avx512_vnni
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
