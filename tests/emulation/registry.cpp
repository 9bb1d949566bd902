// Every op of csrc/cuda/registry.cpp, on CPU tensors and under another name; and the CPU's streams. A step is replayed
// by making it once more, on a stream of its own, as one is captured on.
#include <torch/library.h>

#include "../../csrc/beam_search.h"  // before CUDA means CPU

#define s2s_kernels s2s_kernels_emulated
#define CUDA CPU
#include "../../csrc/cuda/registry.cpp"
#undef CUDA
#undef s2s_kernels

#include "../../csrc/cuda/persistent_host.h"
#include "../../csrc/cuda/replay.h"
#include "machine.h"

namespace s2s::cuda {

cudaStream_t current_stream(const Tensor&) { return emulation::stream; }

namespace {
int multiprocessors = 8;
int64_t shared_bytes = 227 << 10;
}  // namespace

plan::Gpu gpu_of(const Tensor&) { return {90, multiprocessors, shared_bytes}; }

bool captures = true;
int64_t replays = 0;

std::function<void()> captured(const Tensor&, const std::function<void()>& step) {
  if (!captures) return {};
  return [step] {
    replays++;
    emulation::stream = reinterpret_cast<cudaStream_t>(1);
    step();
    emulation::stream = nullptr;
  };
}

std::function<bool()> reached_zero(const Tensor& count) {
  return [=, asked = false, left = 0]() mutable {  // as a GPU answers: what was so when it was asked before
    if (std::exchange(asked, true) && left == 0) return true;
    left = *count.const_data_ptr<int32_t>();
    return false;
  };
}

}  // namespace s2s::cuda

// For tests, through ctypes.
extern "C" {
__attribute__((visibility("default"))) void emulation_set(unsigned seed, int multiprocessors, int shared_bytes) {
  s2s::emulation::seed = seed;
  s2s::cuda::multiprocessors = multiprocessors;
  s2s::cuda::shared_bytes = shared_bytes;
}
// Whether a capture succeeds.
__attribute__((visibility("default"))) void emulation_captures(bool whether) { s2s::cuda::captures = whether; }
__attribute__((visibility("default"))) int64_t emulation_replays() { return s2s::cuda::replays; }
__attribute__((visibility("default"))) int64_t emulation_launches() { return s2s::emulation::launches; }
__attribute__((visibility("default"))) int64_t emulation_launches_together() {
  return s2s::emulation::launches_together;
}
}
