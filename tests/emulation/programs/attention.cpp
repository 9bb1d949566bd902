// Attention of sources that blocks share, without torch: three calls over the same memory, as a decoder makes them.
// Says what is wrong, or nothing.
#include "../cuda.h"
// clang-format off
#include "../../../csrc/cuda/additive_attention_forward.cu"
// clang-format on
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

using namespace s2s;
using namespace s2s::cuda;

constexpr int64_t B = 3, S = 40, A = 8, D = 24;

int main() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  auto numbers = [&](size_t count) {
    std::vector<float> made(count);
    for (float& x : made) x = normal(random);
    return made;
  };
  std::vector<float> keys = numbers(B * S * A), values = numbers(B * S * D), v = numbers(A);
  try {
    AttentionForward a{{B, 1, 1, S, A, D}};
    int64_t splits = attention_splits(a);
    if (splits < 2) throw std::runtime_error("no splits");
    std::vector<float> parts(B * splits * (D + 2), NAN), context(B * D), weights(B * S);
    std::vector<unsigned> arrived(B);
    std::vector<int64_t> lengths = {S, 5, 0};
    a.keys = keys.data(), a.values = values.data(), a.v = v.data(), a.lengths = lengths.data();
    a.query_strides = {A, 0}, a.context_strides = {D, 0}, a.weights_strides = {S, 0};
    a.parts = parts.data(), a.arrived = arrived.data();
    a.context = context.data(), a.exact_weights = weights.data();
    for (int call = 0; call < 3; call++) {
      std::vector<float> query = numbers(B * A);
      a.query = query.data();
      attention_forward(a, Type::kFloat, nullptr);
      for (int64_t b = 0; b < B; b++) {
        std::vector<double> e(S);
        double total = 0;
        for (int64_t s = 0; s < lengths[b]; s++) {
          double score = 0;
          for (int64_t j = 0; j < A; j++) score += v[j] * std::tanh(query[b * A + j] + keys[(b * S + s) * A + j]);
          total += e[s] = std::exp(score);
        }
        for (int64_t d = 0; d < D; d++) {
          double sum = 0;
          for (int64_t s = 0; s < lengths[b]; s++) sum += e[s] / total * values[(b * S + s) * D + d];
          if (!(std::abs(context[b * D + d] - sum) < 1e-5)) throw std::runtime_error("a wrong context");
        }
        for (int64_t s = 0; s < S; s++)
          if (!(std::abs(weights[b * S + s] - (e[s] == 0 ? 0 : e[s] / total)) < 1e-6))
            throw std::runtime_error("wrong weights");
      }
    }
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
}
