// Products of rows with weights in 8 bits, whose sums are exact: 32-bit integers, the same on every instruction set.
// A table of function pointers, as in isa.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace s2s::cpu {

// A weight (n, k) lies in panels of 16 outputs, a panel in lines of 64 bytes: 4 inputs of its first output, of its
// second, and so on. Past n and k are zeros.
constexpr int64_t kInt8Panel = 16, kInt8Group = 4, kInt8Line = kInt8Panel * kInt8Group;

inline int64_t int8_panels(int64_t n) { return (n + kInt8Panel - 1) / kInt8Panel; }
inline int64_t int8_groups(int64_t k) { return (k + kInt8Group - 1) / kInt8Group; }

// No sum of so many products of -127 to 127 passes 32 bits.
constexpr int64_t kInt8Deepest = 133000;

struct Int8Kernels {
  const char* name;

  // Rows of k numbers to integers from -127 to 127, the largest of each row to one of the two, to the nearest and of
  // two the even one. They are stored as bytes, 128 larger, `stride` apart; past k up to a group's end stand zeros.
  // scales: what an integer of a row is to be multiplied with, NaN if a number is none or infinite; of a row without a
  // number of 2^-100 or more all are 0.
  void (*quantize)(int64_t m, int64_t k, const float* x, int64_t x_stride, uint8_t* rows, int64_t stride,
                   float* scales);
  // c (m, n) = row_scales[i] scales[j] sum_p row_i[p] w_j[p]. less: -128 times the sum of w_j, which takes back what
  // the bytes are larger by; scales and less have whole panels.
  void (*product)(int64_t m, int64_t n, int64_t k, const uint8_t* rows, int64_t stride, const float* row_scales,
                  const int8_t* panels, const int32_t* less, const float* scales, float* c, int64_t ldc);
};

// Those for this CPU, at the level of S2S_CPU_CAPABILITY.
const Int8Kernels& int8_kernels();

// The names of all that can run here, the best first.
std::vector<std::string> int8_lanes();
// For tests: one of those; "" as it was.
void pretend_int8_lane(const std::string& name);

}  // namespace s2s::cpu
