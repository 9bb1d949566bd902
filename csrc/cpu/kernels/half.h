// Numbers of 16 bits in memory: read as they are loaded, rounded to the nearest (ties to even) as they are stored.
#pragma once

namespace {

S2S_FORMULA double load(double x) { return x; }
S2S_FORMULA float load(float x) { return x; }

// The upper half of a float32.
S2S_FORMULA float load(BFloat16 x) { return math::bits_to_float(static_cast<int32_t>(uint32_t{x.bits} << 16)); }

// Five bits of exponent, with a bias of 15, and ten of the fraction; below 2^-14, multiples of 2^-24.
S2S_FORMULA float load(Float16 x) {
  int32_t size = x.bits & 0x7fff, sign = (x.bits & 0x8000) << 16;
  int32_t bias = (127 - 15) << 23;
  int32_t normal = (size << 13) + (size < 0x7c00 ? bias : 2 * bias);  // infinity and NaN: the largest exponent
  int32_t small = math::float_to_bits(static_cast<float>(size) * 0x1p-24f);
  return math::bits_to_float((size < 0x400 ? small : normal) | sign);
}

S2S_FORMULA void store(double x, double* to) { *to = x; }
S2S_FORMULA void store(float x, float* to) { *to = x; }

S2S_FORMULA void store(float x, BFloat16* to) {
  uint32_t bits = static_cast<uint32_t>(math::float_to_bits(x));
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded;  // NaN: rounding could carry it to zero
}

S2S_FORMULA void store(float x, Float16* to) {
  int32_t bits = math::float_to_bits(x), size = bits & 0x7fffffff, sign = (bits >> 16) & 0x8000;
  int32_t normal = ((size + 0xfff + ((size >> 13) & 1)) >> 13) - ((127 - 15) << 10);
  // Below 2^-14: the sum with 0.5, whose last bit is 2^-24, rounds to its multiples.
  int32_t small = math::float_to_bits(math::bits_to_float(size) + 0.5f) - math::float_to_bits(0.5f);
  int32_t rounded = size < 113 << 23 ? small : normal;
  rounded = rounded < 0x7c00 ? rounded : 0x7c00;  // infinity
  to->bits = (size > 0x7f800000 ? 0x7e00 : rounded) | sign;
}

template <class T, class E>
void round_to(const T* from, int64_t n, E* to) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) store(static_cast<float>(from[j]), to + j);
}

}  // namespace
