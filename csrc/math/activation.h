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

// e^r for |r| <= ln2 / 2: 1 + r + r^2 p(r), fitted to a relative error under 4e-9.
S2S_FORMULA float exp_near_zero(float r) {
  float p = 0.00138138805f;
  p = p * r + 0.00836906303f;
  p = p * r + 0.0416684225f;
  p = p * r + 0.166665182f;
  p = p * r + 0.49999994f;
  p = p * r + 1.0f;
  return p * r + 1.0f;
}

// Adding this to a number rounds it to an integer n, and leaves n + 127, the exponent's bits of 2^n, in the low bits.
constexpr float kRounder = 12582912.0f + 127.0f;  // 1.5 * 2^23
S2S_FORMULA float power_of_two(float shifted) { return bits_to_float(float_to_bits(shifted) << 23); }

// e^x = 2^n e^r; x from -88 to 89, where n = -127 and n = 128 make the bits of 0 and of infinity.
S2S_FORMULA float exp_in_range(float x) {
  float shifted = x * 1.44269504f + kRounder;
  float n = shifted - kRounder;
  float r = x - n * 0.693359375f;  // ln 2 in two parts, the first exact in few bits
  r = r + n * 2.12194440e-4f;
  return exp_near_zero(r) * power_of_two(shifted);
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
  size = size > 9.02f ? 9.02f : size;  // from 9.01 on, tanh is 1
  float shifted = size * -2.88539008f + kRounder;
  float n = shifted - kRounder;
  float r = size * -2.0f - n * 0.693147181f;  // where n is large enough to tell, e no longer matters
  float e = exp_near_zero(r) * power_of_two(shifted);
  float large = copysignf(1.0f - 2.0f * e / (1.0f + e), x);
  return select(s < 0.4225f, small, large);
#endif
}

}  // namespace s2s::math
