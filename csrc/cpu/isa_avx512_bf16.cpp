// Products of bfloat16 for AVX-512 with BF16.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>  // before the target: nothing of a shared header may be compiled for it
#include <cstdint>
#include <limits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma,prefer-vector-width=512")
#endif
#include "../math/activation.h"
#include "isa.h"

#define S2S_VECTOR_BYTES 64
#define S2S_TILE_ROWS 12
#define S2S_PAIRS
namespace s2s::cpu::avx512_bf16 {
#include "kernels/pairs.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
