// Products of bfloat16 pairs; included once, where the instruction for them is.
#include "gemm.h"
#include "half.h"

namespace {

S2S_FORMULA Pair narrow(float x) {
  BFloat16 y;
  store(x, &y);
  return y.bits;
}

void pair_rows(int64_t m, int64_t k, const float* a, int64_t lda, Pair* out) {
  for (int64_t i = 0; i < m; i++, a += lda, out += (k + 1) / 2) {
    uint16_t* halves = reinterpret_cast<uint16_t*>(out);
#pragma omp simd
    for (int64_t p = 0; p < k; p++) halves[p] = static_cast<uint16_t>(narrow(a[p]));
    if (k % 2) halves[k] = 0;
  }
}

void pair_columns(int64_t k, int64_t n, const float* a, int64_t lda, Pair* out, int64_t stride) {
  for (int64_t p = 0; p < k; p += 2, out += stride) {
    const float *low = a + p * lda, *high = low + lda;
    if (p + 1 == k) {
      for (int64_t j = 0; j < n; j++) out[j] = narrow(low[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < n; j++) out[j] = narrow(low[j]) | narrow(high[j]) << 16;
    }
  }
}

void interleave(int64_t k, int64_t n, const BFloat16* a, int64_t lda, Pair* out, int64_t stride) {
  for (int64_t p = 0; p < k; p += 2, out += stride) {
    const BFloat16 *low = a + p * lda, *high = low + lda;
    if (p + 1 == k) {
      for (int64_t j = 0; j < n; j++) out[j] = low[j].bits;
    } else {
#pragma omp simd
      for (int64_t j = 0; j < n; j++) out[j] = low[j].bits | Pair{high[j].bits} << 16;
    }
  }
}

}  // namespace

extern const PairKernels pairs{.gemm = gemm<Pair, false>,
                               .gemm_transposed = gemm<Pair, true>,
                               .pack = pack<Pair>,
                               .pair_rows = pair_rows,
                               .pair_columns = pair_columns,
                               .interleave = interleave};
