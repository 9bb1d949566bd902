// What the two passes of the decoder share: where the rows of a step lie.
#pragma once

#include "../cell.h"
#include "attention.h"

namespace s2s::cpu::decoder {

// Rows of one step, `stride` apart.
template <class T>
struct Rows {
  T* first;
  int64_t stride;

  T* operator[](int64_t row) const { return first + row * stride; }
};

// Rows first.. of step t of (B, steps, width); of undefined: null.
template <class T>
Rows<T> step_rows(const Tensor& x, int64_t first, int64_t t) {
  if (!x.defined()) return {nullptr, 0};
  int64_t steps = x.size(1), width = x.size(2);
  return {data<std::remove_const_t<T>>(x) + (first * steps + t) * width, steps * width};
}

// The same of layer l of (L, B, steps, width).
template <class T>
Rows<T> layer_rows(const Tensor& x, int64_t l, int64_t first, int64_t t) {
  if (!x.defined()) return {nullptr, 0};
  int64_t steps = x.size(2), width = x.size(3);
  return {data<std::remove_const_t<T>>(x) + ((l * x.size(1) + first) * steps + t) * width, steps * width};
}

// to = a * b
template <class T>
void multiply(T* to, const T* a, const T* b, int64_t n) {
  for (int64_t j = 0; j < n; j++) to[j] = a[j] * b[j];
}

// x (B, S) with zeros where a position is not valid.
template <class T>
Tensor zero_invalid(const Inputs& in, const Positions& positions, const Tensor& x) {
  if (!x.defined()) return x;
  Tensor valid = in.zeros(x.sizes());
  for (int64_t b = 0; b < in.batch; b++)
    for (int64_t i = 0; i < positions.count(b); i++) {
      int64_t at = b * in.source + positions.begin(b)[i];
      data<T>(valid)[at] = data<T>(x)[at];
    }
  return valid;
}

// `by` numbers further; null stays null.
template <class T>
T* further(T* p, int64_t by) {
  return p ? p + by : nullptr;
}

// What is carried of what a cell made: zone * before + (1 - zone) * made * drop. Masks may be null.
template <class T>
void carry(T* to, const T* made, const T* before, const T* drop, const T* zone, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; j++) {
    T y = drop ? made[j] * drop[j] : made[j];
    to[j] = zone ? zone[j] * before[j] + (T(1) - zone[j]) * y : y;
  }
}

// The carried states of a decoder: of layer l before step t, which is after step t - 1. With a transition cell 1 goes
// on from what cell 0 made in the same step, and cell 0 from what cell 1 made in the one before.
template <class T>
struct States {
  const Inputs& in;
  Tensor top, lower;      // (B, T, H), (L - 1, B, T, H)
  Tensor cells, carried;  // (L, B, T, H): as the cells made c, and as it is carried; the same tensor without masks

  Rows<T> after(int64_t l, int64_t first, int64_t t) const {
    return l + 1 == in.depth() ? step_rows<T>(top, first, t) : layer_rows<T>(lower, l, first, t);
  }
  Rows<T> before(int64_t l, int64_t first, int64_t t) const {
    if (in.transition && l == 1) return after(0, first, t);
    return t == 0 ? initial(in.h0, l, first) : after(in.transition ? 1 : l, first, t - 1);
  }
  Rows<T> c_before(int64_t l, int64_t first, int64_t t) const {
    if (in.transition && l == 1) return layer_rows<T>(carried, 0, first, t);
    return t == 0 ? initial(in.c0, l, first) : layer_rows<T>(carried, in.transition ? 1 : l, first, t - 1);
  }
  // The state that the attention of step t is asked with.
  Rows<T> asking(int64_t first, int64_t t) const {
    return in.transition && t > 0 ? after(0, first, t - 1) : before(in.levels() - 1, first, t);
  }
  Rows<T> c_asking(int64_t first, int64_t t) const {
    return in.transition && t > 0 ? layer_rows<T>(carried, 0, first, t - 1) : c_before(in.levels() - 1, first, t);
  }
  Rows<T> initial(const Tensor& x, int64_t l, int64_t first) const {
    return {data<T>(x) + (l * in.batch + first) * in.hidden, in.hidden};
  }
};

// What step t reads of the weights before it. weights: rows (T+1, S) of one row of the batch; sum and first: (S), or
// null.
template <class T>
History<T> history_of(const Inputs& in, int64_t t, const T* weights, const T* sum, const T* first) {
  const T* before = t > in.first_counted() ? weights + (t - 1) * in.source : nullptr;
  return {.previous = before ? before : first, .sum = sum, .moving = before};
}

}  // namespace s2s::cpu::decoder
