// Chooses the instruction set once, at the first use.
#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace s2s::cpu {

#define S2S_DECLARE(isa)                                       \
  namespace isa {                                              \
  extern const Kernels<float> float_kernels;                   \
  extern const Kernels<double> double_kernels;                 \
  extern const SourceKernels<float> float_source;              \
  extern const SourceKernels<double> double_source;            \
  extern const SourceKernels<float, BFloat16> bfloat16_source; \
  extern const SourceKernels<float, Float16> float16_source;   \
  }
S2S_DECLARE(baseline)
#if defined(__x86_64__)
S2S_DECLARE(avx2)
S2S_DECLARE(avx512)
namespace avx512_bf16 {
extern const PairKernels pairs;
}
#endif

namespace {

constexpr const char* kNames[] = {"baseline", "avx2", "avx512", "avx512_bf16"};

// Index in kNames.
int level() {
  static const int chosen = [] {
    int best = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = 1;
    if (best == 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
      best = 2;
    if (best == 2 && __builtin_cpu_supports("avx512bf16")) best = 3;
#endif
    const char* wish = std::getenv("S2S_CPU_CAPABILITY");
    for (int i = 0; wish && i < best; i++)
      if (std::strcmp(wish, kNames[i]) == 0) return i;
    return best;
  }();
  return chosen;
}

}  // namespace

#if defined(__x86_64__)
#define S2S_CHOOSE(table) (level() >= 2 ? avx512::table : level() == 1 ? avx2::table : baseline::table)
#else
#define S2S_CHOOSE(table) (level(), baseline::table)
#endif

template <>
const Kernels<float>& kernels<float>() {
  return S2S_CHOOSE(float_kernels);
}

template <>
const Kernels<double>& kernels<double>() {
  return S2S_CHOOSE(double_kernels);
}

template <>
const SourceKernels<float>& source_kernels<float>() {
  return S2S_CHOOSE(float_source);
}

template <>
const SourceKernels<double>& source_kernels<double>() {
  return S2S_CHOOSE(double_source);
}

template <>
const SourceKernels<float, BFloat16>& source_kernels<float, BFloat16>() {
  return S2S_CHOOSE(bfloat16_source);
}

template <>
const SourceKernels<float, Float16>& source_kernels<float, Float16>() {
  return S2S_CHOOSE(float16_source);
}

const PairKernels* pair_kernels() {
#if defined(__x86_64__)
  return level() == 3 ? &avx512_bf16::pairs : nullptr;
#else
  return nullptr;
#endif
}

const char* cpu_capability() { return kNames[level()]; }

}  // namespace s2s::cpu
