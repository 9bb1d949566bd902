// A sequence of one step, as decoders take that call a GRU or LSTM in a loop of their own.
#pragma once

#include "../ops.h"
#include "tensors.h"

namespace s2s::cpu {

// Our products pack the weights first, which one step of a few rows is not worth: at (B, H) = (1, 512) that would be
// half of the time. A library's reads them where they are.
bool is_single_step(const RecurrenceArguments& in, const OptionalTensor& lengths);

// Fills saved (B, 1, 4H), output (B, 1, H), h_n, and of an LSTM c_n and, if it is to be kept, cells (B, 1, H).
void single_step_forward(int64_t gates, const RecurrenceArguments& in, const Tensor& saved, const Tensor& output,
                         const Tensor& h_n, const Tensor& c_n, const Tensor& cells, bool save);

// Where a gradient is asked for, it is defined.
struct SingleStepGradients {
  Tensor x, h0, c0, weight_ih, weight_hh;
};

// Fills grad_gates (B, 4H), and what of `to` is defined.
void single_step_backward(int64_t gates, const RecurrenceArguments& in, const Tensor& grad_output,
                          const Tensor& grad_h_n, const Tensor& grad_c_n, const Tensor& saved, const Tensor& cells,
                          const Tensor& grad_gates, const SingleStepGradients& to);

}  // namespace s2s::cpu
