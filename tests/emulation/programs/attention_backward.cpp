// Gradients of queries and scores where blocks share the source, without torch: three calls over the same memory, as a
// decoder makes them. Says what is wrong, or nothing.
#include "../cuda.h"
// clang-format off
#include "../../../csrc/cuda/additive_attention_backward.cu"
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
    AttentionBackward a{{B, 1, 1, S, A, D}};
    int64_t splits = attention_backward_splits(a);
    if (splits < 2) throw std::runtime_error("no splits");
    std::vector<float> parts(B * splits * 2 * A, NAN), grad_query(B * A), grad_scores(B * S), sum(B * D);
    std::vector<double> moments(B * splits * 2, NAN);
    std::vector<unsigned> arrived(B);
    a.keys = keys.data(), a.values = values.data(), a.v = v.data();
    a.query_strides = a.grad_query_strides = {A, 0}, a.weights_strides = a.grad_weights_strides = {S, 0};
    a.grad_context_strides = a.sum_grad_context_strides = {D, 0};
    a.parts = parts.data(), a.moments = moments.data(), a.arrived = arrived.data();
    a.grad_query = grad_query.data(), a.grad_scores = grad_scores.data(), a.sum_grad_context = sum.data();
    for (int call = 0; call < 3; call++) {
      std::vector<float> query = numbers(B * A), grad_context = numbers(B * D), grad_weights = numbers(B * S);
      std::vector<float> weights = numbers(B * S);
      int64_t lengths[B] = {S, 5, 0};
      for (int64_t b = 0; b < B; b++) {
        float total = 0;
        for (int64_t s = 0; s < S; s++) total += weights[b * S + s] = s < lengths[b] ? std::exp(weights[b * S + s]) : 0;
        for (int64_t s = 0; s < lengths[b]; s++) weights[b * S + s] /= total;
      }
      a.query = query.data(), a.weights = weights.data();
      a.grad_context = grad_context.data(), a.grad_weights = grad_weights.data();
      attention_backward(a, Type::kFloat, nullptr);
      for (int64_t b = 0; b < B; b++) {
        std::vector<double> grad(S), made(A);
        double mean = 0, mass = 0;
        for (int64_t s = 0; s < lengths[b]; s++) {
          grad[s] = grad_weights[b * S + s];
          for (int64_t d = 0; d < D; d++) grad[s] += grad_context[b * D + d] * values[(b * S + s) * D + d];
          mean += weights[b * S + s] * grad[s], mass += weights[b * S + s];
        }
        for (int64_t s = 0; s < S; s++) {
          double expected = s < lengths[b] ? weights[b * S + s] * (grad[s] - mean / mass) : 0;
          if (!(std::abs(grad_scores[b * S + s] - expected) < 1e-5))
            throw std::runtime_error("wrong scores' gradients");
          for (int64_t j = 0; j < A; j++) {
            double t = std::tanh(query[b * A + j] + keys[(b * S + s) * A + j]);
            made[j] += expected * v[j] * (1 - t * t);
          }
        }
        for (int64_t j = 0; j < A; j++)
          if (!(std::abs(grad_query[b * A + j] - made[j]) < 1e-5)) throw std::runtime_error("a wrong query's gradient");
        for (int64_t d = 0; d < D; d++)
          if (sum[b * D + d] != grad_context[b * D + d]) throw std::runtime_error("a wrong context's gradient");
      }
    }
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
}
