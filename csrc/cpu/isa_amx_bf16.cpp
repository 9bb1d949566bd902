// Products of bfloat16 on the matrix unit of processors with AMX.
#include "isa.h"

#ifdef S2S_AMX
#include <immintrin.h>

#include <cmath>  // before the target: nothing of a shared header may be compiled for it
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,amx-tile,amx-bf16"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,amx-tile,amx-bf16,prefer-vector-width=512")
#endif
#include "../math/activation.h"

#define S2S_VECTOR_BYTES 64
#define S2S_TILE_ROWS 12
namespace s2s::cpu::amx_bf16 {
#include "kernels/tiles.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
