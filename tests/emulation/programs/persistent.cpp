// The persistent kernels without torch: a GRU and an LSTM over a few steps in every division and several orders of
// blocks. Says what is wrong, or nothing. What they compute is held against the reference elsewhere; here it is the
// same to the bit however the work is divided, and a GRU's states are near those of plain loops.
#include "../cuda.h"
// clang-format off
#include "../../../csrc/cuda/persistent_backward.cu"
#include "../../../csrc/cuda/persistent_forward.cu"
// clang-format on
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "../../../csrc/plan.h"

using namespace s2s;
using namespace s2s::cuda;

constexpr int64_t B = 20, T = 3, H = 32;

template <class X>
std::vector<X> random_numbers(size_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<X> made(count);
  for (X& x : made) x = static_cast<X>(normal(random));
  return made;
}

// What a direction is made of.
template <class X>
struct Case {
  int64_t gates;
  bool reverse;
  std::vector<X> gates_x, weight, bias, h0, c0, grad_output;
  std::vector<int64_t> lengths;

  Case(int64_t gates, bool reverse, unsigned seed)
      : gates(gates),
        reverse(reverse),
        gates_x(random_numbers<X>(B * T * gates * H, seed)),
        weight(random_numbers<X>(gates * H * H, seed + 1, 0.2f)),
        bias(random_numbers<X>(gates * H, seed + 2)),
        h0(random_numbers<X>(B * H, seed + 3)),
        c0(random_numbers<X>(B * H, seed + 4)),
        grad_output(random_numbers<X>(B * T * H, seed + 5)) {
    for (int64_t b = 0; b < B; b++) lengths.push_back(b % (T + 2));  // 0 to beyond T
  }

  // The last states of a GRU.
  std::vector<double> truth() const {
    std::vector<double> states(h0.begin(), h0.end());
    for (int64_t b = 0; b < B; b++) {
      double* h = &states[b * H];
      for (int64_t step = 0; step < T; step++) {
        int64_t t = reverse ? T - 1 - step : step;
        if (t >= lengths[b]) continue;
        std::vector<double> sums(3 * H), next(H);
        for (int64_t i = 0; i < 3 * H; i++) {
          sums[i] = bias[i];
          for (int64_t k = 0; k < H; k++) sums[i] += static_cast<double>(weight[i * H + k]) * h[k];
        }
        const X* x = &gates_x[(b * T + t) * 3 * H];
        for (int64_t j = 0; j < H; j++) {
          double r = 1 / (1 + std::exp(-x[j] - sums[j])), z = 1 / (1 + std::exp(-x[H + j] - sums[H + j]));
          next[j] = (1 - z) * std::tanh(x[2 * H + j] + r * sums[2 * H + j]) + z * h[j];
        }
        std::copy(next.begin(), next.end(), h);
      }
    }
    return states;
  }
};

// All that a direction makes, forward and backward.
template <class X>
struct Made {
  const Case<X>& of;
  std::vector<X> output, grad_x, grad_g, h_before;
  std::vector<float> exact, saved, cells, h, c, grad_h, grad_c;

  explicit Made(const Case<X>& of)
      : of(of),
        output(B * T * H),
        grad_x(B * T * of.gates * H),
        grad_g(B * T * of.gates * H),
        h_before(B * T * H),
        exact(B * T * H),
        saved(B * T * 4 * H),
        cells(B * T * H),
        h(of.h0.begin(), of.h0.end()),
        c(of.c0.begin(), of.c0.end()),
        grad_h(B * H, 0.5f),
        grad_c(B * H, 0.25f) {}

  PersistentForward::Direction forward() {
    CellForward f{B, H, T};
    f.lengths = of.lengths.data(), f.gates_x = of.gates_x.data();
    f.gates_x_strides = {T * of.gates * H, of.gates * H};
    f.h = h.data(), f.c = of.gates == 4 ? c.data() : nullptr, f.output = output.data();
    f.output_strides = {T * H, H};
    f.exact_output = exact.data(), f.saved = saved.data(), f.cells = cells.data();
    return {f, of.reverse, of.weight.data(), of.bias.data()};
  }

  PersistentBackward::Direction backward() {
    CellBackward g{B, H, T};
    g.reverse = of.reverse, g.lengths = of.lengths.data(), g.saved = saved.data(), g.output = exact.data();
    g.cells = cells.data(), g.h0 = of.h0.data(), g.c0 = of.c0.data(), g.grad_output = of.grad_output.data();
    g.grad_h = grad_h.data(), g.grad_c = of.gates == 4 ? grad_c.data() : nullptr;
    g.grad_gates_x = grad_x.data(), g.grad_gates_h = grad_g.data(), g.h_before = h_before.data();
    g.grad_gates_x_strides = g.grad_gates_h_strides = {T * of.gates * H, of.gates * H};
    return {g, of.weight.data()};
  }

  std::vector<char> bytes() const {
    std::vector<char> all;
    auto take = [&](const auto& from) {
      auto* bytes = reinterpret_cast<const char*>(from.data());
      all.insert(all.end(), bytes, bytes + from.size() * sizeof(from[0]));
    };
    take(output), take(exact), take(h), take(c);
    take(grad_x), take(grad_g), take(h_before), take(grad_h), take(grad_c);
    return all;
  }
};

// One direction, or both in one launch.
template <class X>
std::vector<Made<X>> run(const std::vector<Case<X>>& cases, Type type, int64_t multiprocessors) {
  int64_t gates = cases[0].gates, directions = cases.size();
  auto plan = plan::make({gates, B, T, H, type, false, directions}, {90, int(multiprocessors), 227 << 10});
  if (!plan.refusal.empty()) throw std::runtime_error(plan.refusal);
  std::vector<unsigned> arrived;
  std::vector<char> exchange;
  auto division = [&](const plan::Launch& launch) {
    arrived.assign(directions * plan.groups, 0);
    exchange.assign(launch.exchange_bytes, -1);
    exchange.shrink_to_fit();
    return Division{int(directions),     int(plan.groups), int(plan.slices), int(plan.tiles),
                    launch.shared_bytes, exchange.data(),  arrived.data()};
  };
  std::vector<Made<X>> made(cases.begin(), cases.end());
  PersistentForward forward{division(plan.forward)};
  for (int64_t d = 0; d < directions; d++) forward.of[d] = made[d].forward();
  persistent_forward(gates, forward, type, nullptr);
  PersistentBackward backward{division(plan.backward)};
  for (int64_t d = 0; d < directions; d++) backward.of[d] = made[d].backward();
  persistent_backward(gates, backward, type, nullptr);
  return made;
}

template <class X>
void check(Type type, double tolerance) {
  for (int64_t gates : {3, 4}) {
    std::vector<Case<X>> both = {{gates, false, 1}, {gates, true, 11}};
    std::vector<char> first[2];
    auto check_bits = [&](size_t d, const std::vector<char>& found) {
      if (first[d].empty()) first[d] = found;
      if (found != first[d]) throw std::runtime_error("other bits in another order or division");
    };
    // One group of two tiles; two groups of one: of the reverse direction, and of both in one launch.
    for (int multiprocessors : {2, 4})
      for (emulation::seed = 1; emulation::seed <= 3; emulation::seed++) {
        check_bits(1, run<X>({both[1]}, type, multiprocessors)[0].bytes());
        auto made = run(both, type, 2 * multiprocessors);
        for (size_t d = 0; d < 2; d++) check_bits(d, made[d].bytes());
        for (size_t d = 0; d < 2 && gates == 3; d++) {
          auto truth = both[d].truth();
          for (size_t i = 0; i < truth.size(); i++)
            if (!(std::fabs(made[d].h[i] - truth[i]) < tolerance)) throw std::runtime_error("a wrong state");
        }
      }
  }
}

int main() {
  try {
    check<__nv_bfloat16>(Type::kBFloat16, 0.03);
    check<float>(Type::kFloat, 1e-5);
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
}
