// Products of 8 bits for the compiler's default.
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "../../math/activation.h"
#include "int8.h"

#define S2S_INT8_NAME "baseline"
namespace s2s::cpu::int8_baseline {
namespace {

constexpr int kRows = 2, kPanels = 1, kFewRows = 1, kFewRowsPanels = 2;
struct Sums {
  int32_t x[kInt8Panel];
};
struct Line {
  const int8_t* x;
};
struct Input {
  const uint8_t* x;
};

S2S_FORMULA Line load_line(const int8_t* from) { return {from}; }
S2S_FORMULA Input load_input(const uint8_t* from) { return {from}; }
S2S_FORMULA void add(Sums& sums, Input input, Line line) {
#pragma omp simd
  for (int i = 0; i < kInt8Panel; i++)
    sums.x[i] += input.x[0] * line.x[4 * i] + input.x[1] * line.x[4 * i + 1] + input.x[2] * line.x[4 * i + 2] +
                 input.x[3] * line.x[4 * i + 3];
}
S2S_FORMULA void finish(const Sums& sums, const int32_t* less, int32_t* to) {
  for (int i = 0; i < kInt8Panel; i++) to[i] = sums.x[i] + less[i];
}

}  // namespace
#include "kernels.h"
}  // namespace s2s::cpu::int8_baseline
