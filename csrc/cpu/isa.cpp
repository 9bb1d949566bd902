// Chooses the instruction set once, at the first use.
#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace s2s::cpu {

namespace baseline {
extern const Tables all;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Tables all;
}
namespace avx512 {
extern const Tables all;
}
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

const Tables& tables() {
#if defined(__x86_64__)
  if (level() >= 2) return avx512::all;
  if (level() == 1) return avx2::all;
#endif
  return baseline::all;
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
