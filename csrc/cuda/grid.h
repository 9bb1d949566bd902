// How many blocks a launch has.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace s2s::cuda {

// As many as a launch takes; more would be cut off to some other number without a word.
inline unsigned grid_of(int64_t blocks) {
  if (blocks < 0 || blocks > std::numeric_limits<int32_t>::max())
    throw std::runtime_error("s2s_kernels: a CUDA kernel would need " + std::to_string(blocks) + " blocks, expected " +
                             std::to_string(std::numeric_limits<int32_t>::max()) +
                             " at most: the inputs are too large");
  return static_cast<unsigned>(blocks);
}

}  // namespace s2s::cuda
