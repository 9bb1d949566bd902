// The persistent decoders without torch, over a few steps, with more rows than slices and with fewer, in several
// divisions and orders of blocks, with the source in shared memory and without. Says what is wrong, or nothing: all of
// it is the same to the bit in any order and division; a GRU's states are near those of plain loops, and its gradients
// near what a loss of plain loops says of them.
#include "../cuda.h"
// clang-format off
#include "../../../csrc/cuda/persistent_attention/persistent_attention_backward.cu"
#include "../../../csrc/cuda/persistent_attention/persistent_attention_forward.cu"
// clang-format on
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "../../../csrc/plan_attention.h"

using namespace s2s;
using namespace s2s::cuda;

struct Sizes {
  int64_t B, T, S, H, A;
};

template <class X>
std::vector<X> random_numbers(size_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<X> made(count);
  for (X& x : made) x = static_cast<X>(normal(random));
  return made;
}

template <class X>
struct Case : Sizes {
  int64_t gates, wide;
  std::vector<X> gates_x, weight, bias, w_query, b_query, keys, v, values, h0, c0, grad_output;
  std::vector<float> given;  // gradients of the scores
  std::vector<int64_t> lengths;

  Case(Sizes sizes, int64_t gates)
      : Sizes(sizes),
        gates(gates),
        wide(gates * H),
        gates_x(random_numbers<X>(B * T * wide, 1)),
        weight(random_numbers<X>(wide * H, 2, 0.2f)),
        bias(random_numbers<X>(wide, 3)),
        w_query(random_numbers<X>(A * H, 4, 0.2f)),
        b_query(random_numbers<X>(A, 5)),
        keys(random_numbers<X>(B * S * A, 6)),
        v(random_numbers<X>(A, 7)),
        values(random_numbers<X>(B * S * wide, 8)),
        h0(random_numbers<X>(B * H, 9)),
        c0(random_numbers<X>(B * H, 10)),
        grad_output(random_numbers<X>(B * T * H, 11)),
        given(random_numbers<float>(B * (T + 1) * S, 12)) {
    for (int64_t b = 0; b < B; b++) lengths.push_back((b + S) % (S + 2));  // 0 to beyond S
    // What does not count may hold anything.
    for (int64_t row = 0; row < B * S; row++) {
      if (row % S < lengths[row / S]) continue;
      for (int64_t a = 0; a < A; a++) keys[row * A + a] = std::numeric_limits<float>::quiet_NaN();
      for (int64_t a = 0; a < wide; a++) values[row * wide + a] = std::numeric_limits<float>::quiet_NaN();
      for (int64_t t = 0; t <= T; t++) given[(row / S * (T + 1) + t) * S + row % S] = 0;
    }
  }

  // All that is made, forward and backward, as bytes; `states`, `grad_h`: the last ones, and those of the first.
  std::vector<char> run(Type type, int multiprocessors, bool stays, std::vector<float>& states,
                        std::vector<float>& grad_h) const {
    plan::Decoder decoder{{gates, B, T, H, type}, S, A, 1, false};
    auto plan = plan::make(decoder, {90, multiprocessors, 227 << 10});
    if (!plan.refusal.empty()) throw std::runtime_error(plan.refusal);
    std::vector<char> made, exchange;
    auto take = [&](const auto& from) {
      auto* bytes = reinterpret_cast<const char*>(from.data());
      made.insert(made.end(), bytes, bytes + from.size() * sizeof(from[0]));
    };
    std::vector<unsigned> arrived;
    auto division = [&](const plan::DecoderLaunch& launch) {
      arrived.assign(plan.groups, 0);
      exchange.assign(launch.exchange_bytes, -1);
      exchange.shrink_to_fit();
      return Division{1,
                      static_cast<int>(plan.groups),
                      static_cast<int>(plan.slices),
                      static_cast<int>(plan.tiles),
                      launch.shared_bytes,
                      exchange.data(),
                      arrived.data()};
    };
    auto source = [&](const plan::DecoderLaunch& launch) {
      PersistentSource s{S, A, keys.data(), v.data(), values.data(), lengths.data()};
      s.parts = static_cast<int>(plan.parts), s.span = static_cast<int>(plan.span);
      s.weights_at = launch.weights_at;
      s.values_at = stays ? launch.values_at : -1, s.keys_at = stays ? launch.keys_at : -1;
      return s;
    };
    std::vector<X> output(B * T * H), queries(B * (T + 1) * A);
    std::vector<float> exact(B * T * H), saved(B * T * 4 * H), cells(B * T * H), h(h0.begin(), h0.end()),
        c(c0.begin(), c0.end());
    PersistentAttentionForward forward{{B, H, T}};
    CellForward& f = forward.cell;
    f.gates_x = gates_x.data(), f.gates_x_strides = {T * wide, wide};
    f.h = h.data(), f.c = gates == 4 ? c.data() : nullptr, f.output = output.data(), f.output_strides = {T * H, H};
    f.exact_output = exact.data(), f.saved = saved.data(), f.cells = cells.data();
    forward.weight = weight.data(), forward.bias = bias.data();
    forward.w_query = w_query.data(), forward.b_query = b_query.data(), forward.queries = queries.data();
    forward.source = source(plan.forward), forward.division = division(plan.forward);
    forward.exchanged_queries = exchange.data() + plan.forward.second_at;
    forward.exchanged_scores = reinterpret_cast<float*>(exchange.data() + plan.forward.third_at);
    persistent_attention_forward(gates, forward, type, nullptr);
    take(output), take(queries), take(exact), take(h), take(c);
    states = h;

    std::vector<X> grad_x(B * T * wide), grad_g(B * T * wide), grad_queries(B * (T + 1) * A);
    std::vector<float> exact_queries(queries.begin(), queries.end()), weights = weights_of(exact_queries);
    std::vector<float> grad_c(B * H), grad_scores(B * (T + 1) * S);
    grad_h.assign(B * H, 0.0f);
    PersistentAttentionBackward backward{{B, H, T}};
    CellBackward& g = backward.cell;
    g.saved = saved.data(), g.output = exact.data(), g.cells = cells.data(), g.h0 = h0.data(), g.c0 = c0.data();
    g.grad_output = grad_output.data(), g.grad_h = grad_h.data(), g.grad_c = gates == 4 ? grad_c.data() : nullptr;
    g.grad_gates_x = grad_x.data(), g.grad_gates_h = grad_g.data();
    g.grad_gates_x_strides = g.grad_gates_h_strides = {T * wide, wide};
    backward.weight = weight.data(), backward.w_query = w_query.data();
    backward.queries = exact_queries.data(), backward.weights = weights.data(), backward.given_scores = given.data();
    backward.grad_scores = grad_scores.data(), backward.grad_queries = grad_queries.data();
    backward.grad_query_strides = {(T + 1) * A, A}, backward.w_query_at = plan.backward.w_query_at;
    backward.source = source(plan.backward), backward.division = division(plan.backward);
    backward.exchanged_grad_queries = exchange.data() + plan.backward.second_at;
    backward.exchanged_parts = reinterpret_cast<float*>(exchange.data() + plan.backward.third_at);
    persistent_attention_backward(gates, backward, type, nullptr);
    take(grad_x), take(grad_g), take(grad_queries), take(grad_scores), take(grad_h), take(grad_c);
    return made;
  }

  // Scores of one query, and what softmax makes of those that count.
  std::vector<double> scores_of(int64_t b, const double* query) const {
    std::vector<double> scores(std::min(lengths[b], S));
    for (size_t s = 0; s < scores.size(); s++)
      for (int64_t a = 0; a < A; a++)
        scores[s] += static_cast<double>(v[a]) * std::tanh(query[a] + static_cast<double>(keys[(b * S + s) * A + a]));
    return scores;
  }
  static std::vector<double> softmax(std::vector<double> scores) {
    double total = 0;
    for (double& x : scores) total += x = std::exp(x);
    for (double& x : scores) x /= total;
    return scores;
  }
  std::vector<float> weights_of(const std::vector<float>& queries) const {
    std::vector<float> weights(B * (T + 1) * S);
    for (int64_t row = 0; row < B * (T + 1); row++) {
      std::vector<double> query(&queries[row * A], &queries[row * A] + A);
      auto found = softmax(scores_of(row / (T + 1), query.data()));
      std::copy(found.begin(), found.end(), &weights[row * S]);
    }
    return weights;
  }

  // A GRU from these first states, which become the last; the loss that grad_output and `given` are gradients of.
  double loss(std::vector<double>& states) const {
    double sum = 0;
    for (int64_t b = 0; b < B; b++)
      for (int64_t t = 0; t <= T; t++) {
        double* h = &states[b * H];
        auto times = [&](const std::vector<X>& matrix, const std::vector<X>& bias, int64_t i) {
          double x = bias[i];
          for (int64_t k = 0; k < H; k++) x += static_cast<double>(matrix[i * H + k]) * h[k];
          return x;
        };
        std::vector<double> query(A), next(H);
        for (int64_t a = 0; a < A; a++) query[a] = times(w_query, b_query, a);
        auto scores = scores_of(b, query.data()), weights = softmax(scores);
        for (size_t s = 0; s < scores.size(); s++) sum += given[(b * (T + 1) + t) * S + s] * scores[s];
        if (t == T) break;
        for (int64_t j = 0; j < H; j++) {
          double x[3], g[3];
          for (int64_t i = 0; i < 3; i++) {
            x[i] = gates_x[(b * T + t) * wide + i * H + j], g[i] = times(weight, bias, i * H + j);
            for (size_t s = 0; s < weights.size(); s++)
              x[i] += weights[s] * static_cast<double>(values[(b * S + s) * wide + i * H + j]);
          }
          double r = 1 / (1 + std::exp(-x[0] - g[0])), z = 1 / (1 + std::exp(-x[1] - g[1]));
          next[j] = (1 - z) * std::tanh(x[2] + r * g[2]) + z * h[j];
          sum += static_cast<double>(grad_output[(b * T + t) * H + j]) * next[j];
        }
        std::copy(next.begin(), next.end(), h);
      }
    return sum;
  }
};

template <class X>
void check(Sizes sizes, std::vector<int> divisions, Type type, double tolerance) {
  for (int64_t gates : {3, 4})
    for (bool stays : {true, false}) {
      Case<X> of(sizes, gates);
      std::vector<char> first;
      std::vector<float> states, grad_h;
      for (int multiprocessors : divisions)
        for (emulation::seed = 1; emulation::seed <= (stays && gates == 3 ? 3 : 1); emulation::seed++) {
          auto found = of.run(type, multiprocessors, stays, states, grad_h);
          if (first.empty()) first = found;
          if (found != first) throw std::runtime_error("other bits in another order or division");
        }
      if (gates == 4) continue;
      auto loss = [&](double by) {
        std::vector<double> h(of.h0.begin(), of.h0.end());
        for (double& x : h) x += by;
        double found = of.loss(h);
        for (size_t i = 0; by == 0 && i < h.size(); i++)
          if (!(std::fabs(states[i] - h[i]) < tolerance)) throw std::runtime_error("a wrong state");
        return found;
      };
      loss(0);
      double step = 1e-4, slope = (loss(step) - loss(-step)) / (2 * step), sum = 0, size = 0;
      for (float x : grad_h) sum += x, size += std::fabs(x);
      if (!(std::fabs(sum - slope) < tolerance * size)) throw std::runtime_error("a wrong gradient");
    }
}

int main() {
  try {
    // One group of two tiles, two groups of one; and keys in two parts.
    check<__nv_bfloat16>({20, 2, 5, 32, 32}, {2}, Type::kBFloat16, 0.05);
    check<float>({20, 2, 5, 32, 32}, {2, 4}, Type::kFloat, 1e-5);
    check<float>({2, 2, 9, 64, 48}, {4}, Type::kFloat, 1e-5);
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
}
