// What the recurrences share: a cell's kernels, and the products that do not depend on the step before.
#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/sum.h>

#include "product.h"

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

// x W^T + b for all steps at once, into the first columns of the gates (B, T, 4H). x and the weight: of to_multiply, or
// of to_compute.
template <class T>
void hoist(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& saved, bool pairs) {
  if (lies_in_pairs(x) && lies_in_pairs(weight)) return product_of_pairs(x, weight, saved, bias);
  Tensor wide = to_compute(x);
  product(RowBlocks<const T>::of(wide), to_compute(weight).t(), RowBlocks<T>::of(saved), pairs, bias);
}

// grad = or += the gradient of weight_hh from those of the gates, rows of 4H, and the states before each step.
template <class T>
void weight_hh_gradient(int64_t gates, RowBlocks<const T> grad_gates, const RowPointers<T>& states, const Tensor& grad,
                        bool pairs, bool accumulate) {
  if (gates == kLstm) return outer_products(grad_gates, states, grad, pairs, accumulate);
  int64_t hidden = grad.size(1);
  outer_products(grad_gates, states, grad.narrow(0, 0, 2 * hidden), pairs, accumulate);
  grad_gates.first += 3 * hidden;
  outer_products(grad_gates, states, grad.narrow(0, 2 * hidden, hidden), pairs, accumulate);
}

// Gradients of bias_ih and bias_hh from the sums (4H) of those of the gates; undefined if those are.
inline std::pair<Tensor, Tensor> bias_gradients(int64_t gates, const Tensor& sums) {
  if (!sums.defined()) return {};
  if (gates == kLstm) return {sums, sums.clone()};
  int64_t hidden = sums.size(0) / 4;
  return {sums.narrow(0, 0, 3 * hidden).clone(),
          at::cat({sums.narrow(0, 0, 2 * hidden), sums.narrow(0, 3 * hidden, hidden)})};
}

}  // namespace s2s::cpu
