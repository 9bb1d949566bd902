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

template <class X>
struct Case {
  int64_t gates;
  bool reverse;
  std::vector<X> gates_x, weight, bias, h0, c0, grad_output;
  std::vector<int64_t> lengths;

  Case(int64_t gates, bool reverse)
      : gates(gates),
        reverse(reverse),
        gates_x(random_numbers<X>(B * T * gates * H, 1)),
        weight(random_numbers<X>(gates * H * H, 2, 0.2f)),
        bias(random_numbers<X>(gates * H, 3)),
        h0(random_numbers<X>(B * H, 4)),
        c0(random_numbers<X>(B * H, 5)),
        grad_output(random_numbers<X>(B * T * H, 6)) {
    for (int64_t b = 0; b < B; b++) lengths.push_back(b % (T + 2));  // 0 to beyond T
  }

  // All that is made, forward and backward, as bytes; `states`: the last.
  std::vector<char> run(Type type, int64_t multiprocessors, std::vector<float>& states) const {
    auto plan = plan::make({gates, B, T, H, type}, {90, static_cast<int>(multiprocessors), 227 << 10});
    if (!plan.refusal.empty()) throw std::runtime_error(plan.refusal);
    std::vector<char> made;
    auto take = [&](const auto& from) {
      auto* bytes = reinterpret_cast<const char*>(from.data());
      made.insert(made.end(), bytes, bytes + from.size() * sizeof(from[0]));
    };
    std::vector<unsigned> arrived(plan.groups);
    std::vector<char> exchange(plan.forward.exchange_bytes, -1);
    auto division = [&](const plan::Launch& launch) {
      arrived.assign(plan.groups, 0);
      exchange.assign(launch.exchange_bytes, -1);
      exchange.shrink_to_fit();
      return Division{static_cast<int>(plan.groups),
                      static_cast<int>(plan.slices),
                      static_cast<int>(plan.tiles),
                      launch.shared_bytes,
                      exchange.data(),
                      arrived.data()};
    };
    std::vector<X> output(B * T * H);
    std::vector<float> exact(B * T * H), saved(B * T * 4 * H), cells(B * T * H), h(h0.begin(), h0.end()),
        c(c0.begin(), c0.end());
    PersistentForward forward{{B, H, T}, reverse, weight.data(), bias.data(), division(plan.forward)};
    CellForward& f = forward.cell;
    f.lengths = lengths.data(), f.gates_x = gates_x.data(), f.gates_x_strides = {T * gates * H, gates * H};
    f.h = h.data(), f.c = gates == 4 ? c.data() : nullptr, f.output = output.data(), f.output_strides = {T * H, H};
    f.exact_output = exact.data(), f.saved = saved.data(), f.cells = cells.data();
    persistent_forward(gates, forward, type, nullptr);
    take(output), take(exact), take(h), take(c);
    states = h;
    std::vector<X> grad_x(B * T * gates * H), grad_g(B * T * gates * H), h_before(B * T * H);
    std::vector<float> grad_h(B * H, 0.5f), grad_c(B * H, 0.25f);
    PersistentBackward backward{{B, H, T}, weight.data(), division(plan.backward)};
    CellBackward& g = backward.cell;
    g.reverse = reverse, g.lengths = lengths.data(), g.saved = saved.data(), g.output = exact.data();
    g.cells = cells.data(), g.h0 = h0.data(), g.c0 = c0.data(), g.grad_output = grad_output.data();
    g.grad_h = grad_h.data(), g.grad_c = gates == 4 ? grad_c.data() : nullptr;
    g.grad_gates_x = grad_x.data(), g.grad_gates_h = grad_g.data(), g.h_before = h_before.data();
    g.grad_gates_x_strides = g.grad_gates_h_strides = {T * gates * H, gates * H};
    persistent_backward(gates, backward, type, nullptr);
    take(grad_x), take(grad_g), take(h_before), take(grad_h), take(grad_c);
    return made;
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

template <class X>
void check(Type type, double tolerance) {
  for (int64_t gates : {3, 4}) {
    Case<X> of(gates, gates == 4);
    std::vector<char> first;
    std::vector<float> states;
    // One group of two tiles; two groups of one.
    for (int multiprocessors : {2, 4})
      for (emulation::seed = 1; emulation::seed <= 3; emulation::seed++) {
        auto found = of.run(type, multiprocessors, states);
        if (first.empty()) first = found;
        if (found != first) throw std::runtime_error("other bits in another order or division");
      }
    if (gates == 4) continue;
    auto truth = of.truth();
    for (size_t i = 0; i < truth.size(); i++)
      if (!(std::fabs(states[i] - truth[i]) < tolerance)) throw std::runtime_error("a wrong state");
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
