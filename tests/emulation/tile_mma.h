// mma.sync.aligned.m16n8k16.row.col with sums in float32, as loops. Which lane's register holds which element is
// written after the formulas of the PTX manual ("Matrix Fragments for mma.m16n8k16 with floating point type").
// Products are exact and summed in double: the hardware, which may cut bits off, is a little less precise.
#pragma once

#include <cstring>

#include "machine.h"

namespace s2s::emulation {

struct Place {
  int row, column;
};

// Element i = 0..7 of matrix A, 16 x 16.
inline Place place_a(int lane, int i) {
  int group = lane >> 2, thread = lane % 4;
  return {i < 2 || (i >= 4 && i < 6) ? group : group + 8, i < 4 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8};
}

// Element i = 0..3 of matrix B, 16 x 8.
inline Place place_b(int lane, int i) {
  int group = lane >> 2, thread = lane % 4;
  return {i < 2 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8, group};
}

// Element i = 0..3 of matrices C and D, 16 x 8.
inline Place place_c(int lane, int i) {
  int group = lane >> 2, thread = lane % 4;
  return {i < 2 ? group : group + 8, thread * 2 + (i & 1)};
}

// Words 0 and 1 hold a lane's elements of A, word 2 those of B; words 0 and 1 become what is added to those of C.
template <class T>
void multiply(unsigned mask, Words* all) {
  if (mask != 0xffffffffu) throw std::runtime_error("tile_mma: expected all lanes of a warp");
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; lane++) {
    T of_a[8], of_b[4];
    std::memcpy(of_a, all[lane], sizeof(of_a));
    std::memcpy(of_b, all[lane] + 2, sizeof(of_b));
    for (int i = 0; i < 8; i++) a[place_a(lane, i).row][place_a(lane, i).column] = static_cast<float>(of_a[i]);
    for (int i = 0; i < 4; i++) b[place_b(lane, i).row][place_b(lane, i).column] = static_cast<float>(of_b[i]);
  }
  for (int lane = 0; lane < 32; lane++) {
    float sums[4];
    for (int i = 0; i < 4; i++) {
      Place at = place_c(lane, i);
      double sum = 0;
      for (int k = 0; k < 16; k++) sum += a[at.row][k] * b[k][at.column];
      sums[i] = static_cast<float>(sum);
    }
    std::memcpy(all[lane], sums, sizeof(sums));
  }
}

}  // namespace s2s::emulation

namespace s2s::cuda {

// A: anything of 8 elements T; B: of 4.
template <class T, class A, class B>
void tile_mma(const A& a, const B& b, float (&c)[4]) {
  static_assert(sizeof(A) == 8 * sizeof(T) && sizeof(B) == 4 * sizeof(T));
  emulation::Words words = {};
  std::memcpy(words, &a, sizeof(A));
  std::memcpy(words + 2, &b, sizeof(B));
  emulation::meet(0xffffffffu, words, emulation::multiply<T>, "tile_mma");
  float sums[4];
  std::memcpy(sums, words, sizeof(sums));
  for (int i = 0; i < 4; i++) c[i] += sums[i];
}

}  // namespace s2s::cuda
