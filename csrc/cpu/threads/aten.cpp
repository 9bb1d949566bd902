#include "aten.h"

#include <ATen/Parallel.h>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace s2s::cpu::threads {

namespace {

thread_local int64_t kept = 0;  // what ATen would use; 0: it does

#ifdef _OPENMP
int allowed() { return omp_get_max_threads(); }
void allow(int64_t count) { omp_set_num_threads(static_cast<int>(count)); }
#else
int allowed() { return 1; }
void allow(int64_t) {}
#endif

}  // namespace

int64_t wanted() { return kept ? kept : at::get_num_threads(); }

KeepAtenHere::KeepAtenHere(bool keep) : kept_(keep && !kept) {
  if (!kept_) return;
  kept = at::get_num_threads();
  allow(1);
}

KeepAtenHere::~KeepAtenHere() {
  if (!kept_) return;
  allow(kept);
  kept = 0;
}

ReleaseAten::ReleaseAten() : before_(allowed()) {
  if (kept) allow(kept);
}

ReleaseAten::~ReleaseAten() { allow(before_); }

}  // namespace s2s::cpu::threads
