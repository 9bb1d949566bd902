// The GRU cell, reset gate after the matrix product (torch.nn.GRU, cuDNN).
#pragma once

#include "activation.h"

namespace s2s::math {

template <class T>
struct GruGates {
  T r, z, n;
};

template <class T>
S2S_FORMULA GruGates<T> gru_gates(T x_r, T x_z, T x_n, T h_r, T h_z, T h_n) {
  T r = sigmoid(x_r + h_r);
  T z = sigmoid(x_z + h_z);
  T n = tanh(x_n + r * h_n);
  return {r, z, n};
}

template <class T>
S2S_FORMULA T gru_state(T z, T n, T h) {
  return (T(1) - z) * n + z * h;
}

// Gradients of the sums that the gates were made from: n's is that of x_n; h_n's is r times it.
template <class T>
struct GruGradients {
  T r, z, n, h_n, h;
};

template <class T>
S2S_FORMULA GruGradients<T> gru_backward(T r, T z, T n, T h_n, T h, T grad) {
  T grad_n = grad * (T(1) - z) * (T(1) - n * n);
  return {grad_n * h_n * r * (T(1) - r), grad * (h - n) * z * (T(1) - z), grad_n, grad_n * r, grad * z};
}

}  // namespace s2s::math
