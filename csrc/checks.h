// Checks of what kernels are about to read. Public functions in Python have checked with better words already; these
// stand between torch.ops and memory.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops.h"

namespace s2s {

void check_like(const char* name, const Tensor& x, at::IntArrayRef shape, const Tensor& like);
void check_optional(const char* name, const OptionalTensor& x, at::IntArrayRef shape, const Tensor& like);
// Nothing is known of the tensor that it must be like but its dtype and device; as it lies in memory, it is contiguous.
void check_made(const char* name, const Tensor& x, at::IntArrayRef shape, at::ScalarType type, at::Device device);
void check_dim(const char* name, const Tensor& x, int64_t least, int64_t most);
// (B,) integers on the device of `like`; on the CPU their values too: 0..limit.
void check_lengths(const OptionalTensor& lengths, int64_t batch, int64_t limit, const Tensor& like,
                   const char* name = "lengths");
void check_mask(const OptionalTensor& mask, int64_t batch, int64_t source, const Tensor& like,
                const char* name = "mask");

// x (B, T, I), h0 and c0 (B, H), the cell's weights; `feed` more columns in weight_ih.
struct Cell {
  Tensor weight_ih, weight_hh;
  OptionalTensor bias_ih, bias_hh;
};
void check_cell(int64_t gates, const Tensor& x, const Tensor& h0, const OptionalTensor& c0, const Cell& cell,
                int64_t feed);

}  // namespace s2s
