// The CPU kernels for AVX2 with FMA.
#if defined(__x86_64__)
#include <cmath>  // before the target: nothing of a shared header may be compiled for it
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include "../math/additive.h"
#include "../math/gru.h"
#include "../math/lstm.h"
#include "isa.h"

#define S2S_VECTOR_BYTES 32
#define S2S_TILE_ROWS 6
namespace s2s::cpu::avx2 {
#include "kernels/all.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
