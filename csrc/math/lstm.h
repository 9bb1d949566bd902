// The LSTM cell.
#pragma once

#include "activation.h"

namespace s2s::math {

template <class T>
struct LstmGates {
  T i, f, g, o;
};

// Of the sums of x's and h's parts.
template <class T>
S2S_FORMULA LstmGates<T> lstm_gates(T i, T f, T g, T o) {
  return {sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)};
}

template <class T>
S2S_FORMULA T lstm_cell(T i, T f, T g, T c) {
  return f * c + i * g;
}

template <class T>
S2S_FORMULA T lstm_state(T o, T c) {
  return o * tanh(c);
}

// Gradients of the four sums, and of the previous cell state.
template <class T>
struct LstmGradients {
  T i, f, g, o, c;
};

template <class T>
S2S_FORMULA LstmGradients<T> lstm_backward(T i, T f, T g, T o, T c_previous, T c, T grad_h, T grad_c) {
  T tanh_c = tanh(c);
  T total = grad_c + grad_h * o * (T(1) - tanh_c * tanh_c);
  return {total * g * i * (T(1) - i), total * c_previous * f * (T(1) - f), total * i * (T(1) - g * g),
          grad_h * tanh_c * o * (T(1) - o), total * f};
}

}  // namespace s2s::math
