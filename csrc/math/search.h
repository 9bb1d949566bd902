// What a search scores outputs by (Wu et al. 2016, equation 14): log P / lp + cp.
#pragma once

#include <cfloat>

#include "activation.h"

namespace s2s::math {

S2S_FORMULA double log(double x) { return ::log(x); }
S2S_FORMULA float log(float x) { return ::logf(x); }

// lp of that many tokens, </s> included.
template <class T>
S2S_FORMULA T length_factor(int64_t length, double penalty) {
  return static_cast<T>(::pow((5.0 + length) / 6.0, penalty));
}

// One source position's part of cp. The smallest float32 stands for what was never looked at.
template <class T>
S2S_FORMULA T coverage_term(T attended) {
  return log(attended < T(FLT_MIN) ? T(FLT_MIN) : attended > T(1) ? T(1) : attended);
}

// What an output that begins so may still score, from log P so far and lp of the shortest and of the longest of them:
// log P only falls, a larger lp brings it nearer to 0, and cp is no gain.
template <class T>
S2S_FORMULA T score_bound(T log_p, T shortest, T longest) {
  T a = log_p / shortest, b = log_p / longest;
  return a > b ? a : b;
}

}  // namespace s2s::math
