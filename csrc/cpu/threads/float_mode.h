// How the processor rounds, and whether denormal numbers are zeros (torch.set_flush_denormal): each thread has its own.
// std::fegetenv and fesetenv, which save more, take 0.3 us each.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace s2s::cpu::threads {

inline uint64_t float_mode() {
#if defined(__x86_64__)
  return _mm_getcsr() & ~uint64_t{0x3f};  // without the flags of what has happened
#elif defined(__aarch64__)
  uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
#else
  return 0;
#endif
}

inline void set_float_mode(uint64_t mode) {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<uint32_t>(mode));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" : : "r"(mode));
#else
  (void)mode;
#endif
}

}  // namespace s2s::cpu::threads
