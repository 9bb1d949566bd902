// A layer's weight in 8 bits, and the rows that it is multiplied with.
#pragma once

#include <vector>

#include "../../checks.h"
#include "../tensors.h"
#include "int8.h"

namespace s2s::cpu {

// Rows as Int8Kernels::quantize makes them, in memory of the thread.
struct Int8Rows {
  const uint8_t* bytes = nullptr;
  int64_t stride = 0;
  const float* scales = nullptr;

  static Int8Rows of(int64_t m, int64_t k, const float* x, int64_t x_stride) {
    thread_local Buffer<uint8_t> bytes;
    thread_local Buffer<float> scales;
    int64_t stride = int8_groups(k) * kInt8Group;
    bytes.resize(std::max<size_t>(bytes.size(), m * stride)), scales.resize(std::max<size_t>(scales.size(), m));
    int8_kernels().quantize(m, k, x, x_stride, bytes.data(), stride, scales.data());
    return {bytes.data(), stride, scales.data()};
  }
};

// As s2s_kernels/quantize.py packs it. panels: int8 (P, K / 4, 16, 4); outputs: int32 (2, 16 P), the bits of each
// output's scale (a float would not come through autocast as it is) and -128 times the sum of its integers.
struct Int8Weight {
  Tensor panels, outputs;

  Int8Weight() = default;
  Int8Weight(const char* name, const Tensor& panels_, const Tensor& outputs_, const Tensor& weight)
      : panels(panels_), outputs(outputs_) {
    int64_t count = int8_panels(weight.size(0)), groups = int8_groups(weight.size(1));
    TORCH_CHECK_VALUE(weight.size(1) <= kInt8Deepest, name, " has ", weight.size(1), " columns, expected at most ",
                      kInt8Deepest, " in 8 bits");
    check_made(name, panels, {count, groups, kInt8Panel, kInt8Group}, at::kChar, weight.device());
    check_made(name, outputs, {2, count * kInt8Panel}, at::kInt, weight.device());
  }

  bool defined() const { return panels.defined(); }

  // Columns begin..end of m rows of k numbers, begin a multiple of a panel's; c is that of column `begin`.
  void columns(int64_t begin, int64_t end, int64_t m, int64_t k, const Int8Rows& rows, float* c,
               int64_t c_stride) const {
    const int32_t* scales = outputs.const_data_ptr<int32_t>();
    int8_kernels().product(m, end - begin, k, rows.bytes, rows.stride, rows.scales,
                           panels.const_data_ptr<int8_t>() + begin * int8_groups(k) * kInt8Group,
                           scales + outputs.size(1) + begin, reinterpret_cast<const float*>(scales) + begin, c,
                           c_stride);
  }
};

// The weights of a search in 8 bits; undefined: all are as they are.
struct Int8Weights {
  Int8Weight w_query, w_feed, w_readout, w_output;
  std::vector<std::pair<Int8Weight, Int8Weight>> cells;  // weight_ih, weight_hh
};

// For tests: x (M, K) times a weight in 8 bits, whose shape (N, K) is that of `weight`.
Tensor int8_linear(const Tensor& x, const Tensor& panels, const Tensor& outputs, const Tensor& weight);

}  // namespace s2s::cpu
