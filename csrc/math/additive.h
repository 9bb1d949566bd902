// The additive score v . tanh(q + k), one element of the sum.
//
// tanh is taken as it is. The factored form, 1 - 2 / (1 + e^2q e^2k) from tables of exponentials, is cheaper but rounds
// up to twice as much, in scores that everything follows from and in gradients that cancel: it broke the tolerance
// rule.
#pragma once

#include "activation.h"

namespace s2s::math {

// From t = tanh(query + key), for who takes it in another way.
template <class T>
S2S_FORMULA T additive_score(T v, T t) {
  return v * t;
}

template <class T>
S2S_FORMULA T additive_score(T v, T query, T key) {
  return additive_score(v, tanh(query + key));
}

// Gradients of query and key (they are equal), and of v.
template <class T>
struct AdditiveGradients {
  T query, v;
};

template <class T>
S2S_FORMULA AdditiveGradients<T> additive_backward(T v, T t, T grad_score) {
  return {grad_score * v * (T(1) - t * t), grad_score * t};
}

template <class T>
S2S_FORMULA AdditiveGradients<T> additive_backward(T v, T query, T key, T grad_score) {
  return additive_backward(v, tanh(query + key), grad_score);
}

}  // namespace s2s::math
