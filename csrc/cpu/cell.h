// What the recurrences share: a cell's kernels, and the products that do not depend on the step before.
#pragma once

#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include "tensors.h"

namespace s2s::cpu {

// Both cells save 4H numbers a step: r z n h_n, or i f g o; their gradients are laid out alike, h_n's being that of
// W_hn h + b_hn.
template <class T>
struct CellKernels {
  CellForward<T> forward;
  CellBackward<T> backward;

  explicit CellKernels(int64_t gates)
      : forward(gates == kGru ? kernels<T>().gru_forward : kernels<T>().lstm_forward),
        backward(gates == kGru ? kernels<T>().gru_backward : kernels<T>().lstm_backward) {}
};

// out = a b (+ bias), into a slice of a larger matrix as well.
inline void product(Tensor out, const Tensor& a, const Tensor& b, const Tensor& bias = {}) {
  if (bias.defined())
    at::addmm_out(out, bias, a, b);
  else
    at::mm_out(out, a, b);
}

// x W^T + b for all steps at once: into the first gates * H columns of (B * T, 4H).
inline void hoist(int64_t gates, Tensor saved, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  int64_t width = saved.size(1) / 4 * gates;
  product(columns(saved, 0, width), x, weight.t(), bias);
}

// Gradient of weight_hh from those of the gates (N, 4H) and the states before each step (N, H).
inline Tensor weight_hh_gradient(int64_t gates, const Tensor& grad_gates, const Tensor& h_previous) {
  int64_t hidden = h_previous.size(1);
  if (gates == kLstm) return at::mm(grad_gates.t(), h_previous);
  Tensor grad = at::empty({3 * hidden, hidden}, h_previous.options());
  product(grad.narrow(0, 0, 2 * hidden), columns(grad_gates, 0, 2 * hidden).t(), h_previous);
  product(grad.narrow(0, 2 * hidden, hidden), columns(grad_gates, 3 * hidden, 4 * hidden).t(), h_previous);
  return grad;
}

// Gradients of bias_ih and bias_hh.
inline std::pair<Tensor, Tensor> bias_gradients(int64_t gates, const Tensor& grad_gates) {
  Tensor sums = at::sum(grad_gates, at::IntArrayRef({0}));
  if (gates == kLstm) return {sums, sums.clone()};
  int64_t hidden = sums.size(0) / 4;
  return {sums.narrow(0, 0, 3 * hidden).clone(),
          at::cat({sums.narrow(0, 0, 2 * hidden), sums.narrow(0, 3 * hidden, hidden)})};
}

}  // namespace s2s::cpu
