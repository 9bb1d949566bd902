// exp, sigmoid and tanh that vectorise: no branch, no library call. One copy for CPU and CUDA.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define S2S_FORMULA __host__ __device__ __forceinline__
#else
// Always inlined: the CPU kernels include these files once per instruction set, and a shared out-of-line copy
// could be one that an older CPU cannot run.
#define S2S_FORMULA static inline __attribute__((always_inline))
#endif

namespace s2s::math {

S2S_FORMULA float bits_to_float(int32_t i) {
  union {
    int32_t i;
    float f;
  } u;
  u.i = i;
  return u.f;
}

S2S_FORMULA int32_t float_to_bits(float f) {
  union {
    float f;
    int32_t i;
  } u;
  u.f = f;
  return u.i;
}

// condition ? a : b, both computed: as a branch it would keep a loop from being vectorised.
S2S_FORMULA float select(bool condition, float a, float b) {
  int32_t mask = -static_cast<int32_t>(condition);
  return bits_to_float((float_to_bits(a) & mask) | (float_to_bits(b) & ~mask));
}

S2S_FORMULA double exp(double x) { return ::exp(x); }

// e^x = 2^n e^r with |r| <= ln2 / 2, e^r by its Taylor series to r^7 (error under 1e-8); x from -88 to 89, where
// n = -127 and n = 128 make the bits of 0 and of infinity.
S2S_FORMULA float exp_in_range(float x) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  float shifted = x * 1.44269504f + shift;
  float n = shifted - shift;
  float r = x - n * 0.693359375f;  // ln 2 in two parts, the first exact in few bits
  r = r + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * bits_to_float((float_to_bits(shifted) + 127) << 23);
}

// Of any x; NaN stays NaN.
S2S_FORMULA float exp(float x) {
#ifdef __CUDA_ARCH__
  return expf(x);
#else
  x = x < -88.0f ? -88.0f : x;
  x = x > 89.0f ? 89.0f : x;
  return exp_in_range(x);
#endif
}

template <class T>
S2S_FORMULA T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

S2S_FORMULA double tanh(double x) { return ::tanh(x); }

// 1 - 2e / (1 + e) with e = e^(-2|x|), and below 0.65, where that difference would lose digits, x + x^3 p(x^2), p
// fitted to a relative error under 7e-9.
S2S_FORMULA float tanh(float x) {
#ifdef __CUDA_ARCH__
  return tanhf(x);
#else
  float s = x * x;
  float p = -0.00552862461f;
  p = p * s + 0.0204833065f;
  p = p * s - 0.0536929645f;
  p = p * s + 0.133308997f;
  p = p * s - 0.333332629f;
  float small = x + x * s * p;
  float size = fabsf(x);
  size = size > 20.0f ? 20.0f : size;  // from 9.01 on, tanh is 1
  float e = exp_in_range(-2.0f * size);
  float large = copysignf(1.0f - 2.0f * e / (1.0f + e), x);
  return select(s < 0.4225f, small, large);
#endif
}

}  // namespace s2s::math
