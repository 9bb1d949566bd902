// Steps without the host. In stream.cpp, which alone knows torch's CUDA.
#pragma once

#include <cstdlib>
#include <functional>
#include <string_view>

#include "glue.h"

namespace s2s::cuda {

constexpr int64_t kWorthCapturing = 8;  // of longer loops

// Whether a loop is to be replayed: as S2S_CUDA_GRAPH says, 0 or 1; else `unasked`.
inline bool wants_graph(bool unasked) {
  const char* value = std::getenv("S2S_CUDA_GRAPH");
  std::string_view asked = value ? value : "";
  return asked == "1" || (unasked && asked != "0");
}

// Launches all that `step` launches, from a CUDA graph. Empty where the caller is capturing one, and where the capture
// fails, which is said once: `step` is then to be called itself, and has done nothing yet.
std::function<void()> captured(const Tensor& like, const std::function<void()>& step);

// Whether a count in the GPU's memory was zero when this was asked the time before: nothing waits for the answer, as
// what was launched since keeps the GPU busy. While a graph is captured nobody can know.
std::function<bool()> reached_zero(const Tensor& count);

}  // namespace s2s::cuda
