// How many threads ATen is told to use, and how to keep it from that.
#pragma once

#include <cstdint>

namespace s2s::cpu::threads {

// As many as the caller of the op lets torch use.
int64_t wanted();

// ATen's own loops run in the calling thread alone while it lives, if `keep`. (OpenMP has a number of threads for each
// thread, which at::get_num_threads() tells; built without OpenMP ATen has a pool that sleeps.)
class KeepAtenHere {
 public:
  explicit KeepAtenHere(bool keep = true);
  ~KeepAtenHere();
  KeepAtenHere(const KeepAtenHere&) = delete;

 private:
  bool kept_;
};

// Takes it back for a while.
class ReleaseAten {
 public:
  ReleaseAten();
  ~ReleaseAten();
  ReleaseAten(const ReleaseAten&) = delete;

 private:
  int before_;
};

}  // namespace s2s::cpu::threads
