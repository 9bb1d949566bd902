// The additive score v . tanh(q + k), from tables of exponentials made once.
//
// With x = e^2q e^2k and r = 1 / (1 + x), tanh(q + k) = (x - 1) r and tanh'(q + k) = 4 x r^2. Of the equal forms these
// two keep the most digits (1 - 2r and 4 r (1 - r) have twice the error where tanh saturates).
#pragma once

#include "activation.h"

namespace s2s::math {

template <class T>
struct Pair {
  T first, second;
};

// Two reciprocals for one division; a Newton step takes back the rounding of the products.
template <class T>
S2S_FORMULA Pair<T> reciprocals(T x, T y) {
  T inverse = T(1) / (x * y);
  T first = y * inverse, second = x * inverse;
  return {first + first * (T(1) - x * first), second + second * (T(1) - y * second)};
}

template <class T>
S2S_FORMULA T factored_tanh(T x, T r) {
  return (x - T(1)) * r;
}

// A quarter of the derivative.
template <class T>
S2S_FORMULA T factored_derivative(T x, T r) {
  return x * r * r;
}

// The factored form is exact while the paired product (1 + E_q E_k)^2 stays finite, |q| and |k| up to this limit,
// and keeps tanh's relative accuracy while the arguments are not all tiny. Outside, tanh is taken as it is.
template <class T>
S2S_FORMULA bool can_factor(T largest_query, T largest_key) {
  const T limit = sizeof(T) == 4 ? T(10.9) : T(87);
  return largest_query <= limit && largest_key <= limit && largest_query + largest_key > T(0.1);
}

}  // namespace s2s::math
