// The CPU kernels for AVX-512 (F, DQ, VL, BW).
#if defined(__x86_64__)
#include <cmath>  // before the target: nothing of a shared header may be compiled for it
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,prefer-vector-width=512")
#endif
#include "../math/additive.h"
#include "../math/gru.h"
#include "../math/lstm.h"
#include "isa.h"

#define S2S_VECTOR_BYTES 64
#define S2S_TILE_ROWS 12
namespace s2s::cpu::avx512 {
#include "kernels/all.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
