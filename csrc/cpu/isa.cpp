// Chooses the instruction set once, at the first use.
#include "isa.h"

#include <cstdlib>
#include <cstring>

#ifdef S2S_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
#ifdef S2S_AMX
namespace amx_bf16 {
extern const Gemm<Pair, float> gemm_of_tiles, transposed_of_tiles;
}
#endif

namespace {

constexpr const char* kNames[] = {"baseline", "avx2", "avx512", "avx512_bf16", "amx_bf16"};

// Whether there is a matrix unit for bfloat16, and Linux lets this process use its registers, for which it must be
// asked.
bool has_tiles() {
#ifdef S2S_AMX
  unsigned a, b, c, d;
  constexpr unsigned bf16 = 1u << 22, tiles = 1u << 24;
  constexpr int ask = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (bf16 | tiles)) != (bf16 | tiles)) return false;
  return syscall(SYS_arch_prctl, ask, tile_data) == 0;
#else
  return false;
#endif
}

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
    if (best == 3 && has_tiles()) best = 4;
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
#ifdef S2S_AMX
  static const PairKernels tiles = [] {
    PairKernels all = avx512_bf16::pairs;
    all.gemm = amx_bf16::gemm_of_tiles, all.gemm_transposed = amx_bf16::transposed_of_tiles;
    return all;
  }();
  if (level() == 4) return &tiles;
#endif
#if defined(__x86_64__)
  if (level() == 3) return &avx512_bf16::pairs;
#endif
  return nullptr;
}

const char* cpu_capability() { return kNames[level()]; }

}  // namespace s2s::cpu
