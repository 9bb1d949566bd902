// The loss over the vocabulary and its gradients, a chunk of rows at a time. Threads own words: a thread makes the
// logits of its words, keeps them until every row's sum of exponentials is known, turns them into their gradient a
// block at a time, and a block goes into both products while it is in the second-level cache.
//
// Logits stand word by word, (words, rows): the weight and the gradient of the logits are then read as they lie, and
// only the features, a chunk of them, are packed. In float32 the three products run at 180 GFLOP/s on two cores of a
// Zen 4, whole (N, V) products of MKL at 160 to 190 and by chunks, as they are needed here, at 100 to 190.
#include <ATen/ops/empty.h>

#include <cmath>
#include <limits>

#include "../checks.h"
#include "tensors.h"

namespace s2s::cpu {

namespace {

// At most, in a chunk and in a block. Larger chunks read the weight and its gradient less often; of a large vocabulary
// they have fewer rows, so that the logits stay under 48 MB.
constexpr int64_t kRows = 320, kLeastRows = 64, kLogits = 3 << 22, kWords = 192;
constexpr int64_t kDepth = 128;  // rows summed one after the other in the gradient of the weight, see product.h

// Words v.. of the weight as packed panels, for the gradient of the features.
template <class T>
class WeightBlock {
 public:
  explicit WeightBlock(int64_t width, bool pairs) : width_(width), pairs_(pairs) {}

  void pack(const Tensor& weight, int64_t word, int64_t words) {
    const auto& kernel = kernels<T>();
    int64_t panel = kernel.panel, panels = (width_ + panel - 1) / panel;
    if (pairs_) packed_pairs_.resize(panels * panel * pairs_of(words));
    if (lies_in_pairs(weight)) {
      for (int64_t i = 0; i < panels; i++)
        interleave(bits<const BFloat16>(weight) + word * width_ + i * panel, words, std::min(panel, width_ - i * panel),
                   packed_pairs_.data() + i * panel * pairs_of(words));
      return;
    }
    const T* from = data<T>(weight) + word * width_;
    packed_.resize(panels * panel * words);
    for (int64_t i = 0; i < panels; i++) {
      T* to = packed_.data() + i * panel * words;
      kernel.pack(from + i * panel, width_, 1, words, std::min(panel, width_ - i * panel), to);
      if constexpr (std::is_same_v<T, float>)
        if (pairs_)
          pair_kernels()->pair_columns(words, panel, to, panel, packed_pairs_.data() + i * panel * pairs_of(words),
                                       panel);
    }
  }

  // to (rows, width) += grad^T (rows, words) times the block.
  void apply(const T* grad, int64_t stride, int64_t words, int64_t rows, T* to) {
    if constexpr (std::is_same_v<T, float>) {
      if (pairs_) {
        grad_pairs_.resize(pairs_of(words) * rows);
        pair_kernels()->pair_columns(words, rows, grad, stride, grad_pairs_.data(), rows);
        pair_kernels()->gemm_transposed(rows, width_, pairs_of(words), grad_pairs_.data(), rows, packed_pairs_.data(),
                                        to, width_, nullptr, true);
        return;
      }
    }
    kernels<T>().gemm_transposed(rows, width_, words, grad, stride, packed_.data(), to, width_, nullptr, true);
  }

 private:
  // A panel, so many of whose columns there are.
  void interleave(const BFloat16* from, int64_t words, int64_t columns, Pair* to) const {
    int64_t panel = kernels<T>().panel;
    if (columns < panel) std::fill_n(to, panel * pairs_of(words), Pair{0});
    pair_kernels()->interleave(words, columns, from, width_, to, panel);
  }

  int64_t width_;
  bool pairs_;
  Buffer<T> packed_;
  Buffer<Pair> packed_pairs_, grad_pairs_;
};

struct Inputs {
  Tensor features, weight, bias, targets;
  double smoothing;
  bool pairs;
  int64_t rows, width, words;
};

template <class T>
double run(const Inputs& in, Needs<3> needs, const Tensor& grad_features, const Tensor& grad_weight,
           const Tensor& grad_bias) {
  const auto& kernel = kernels<T>();
  int64_t limit = std::clamp(kLogits / in.words, kLeastRows, kRows);
  int64_t chunks = (in.rows + limit - 1) / limit, most = (in.rows + chunks - 1) / chunks;
  int64_t stride = (most + kernel.panel - 1) / kernel.panel * kernel.panel;
  double work = 6.0 * most * in.width * in.words;
  int64_t parts_of_words = threads_for(work);
  auto options = in.features.options();
  Tensor logits = at::empty({in.words, stride}, options), seen = at::empty({parts_of_words, 3, stride}, options);
  Tensor parts = at::empty({needs[0] ? parts_of_words : 0, most, in.width}, options);
  Tensor expected = at::empty({stride}, options);
  bool learning = needs[0] || needs[1] || needs[2];
  const int64_t* targets = in.targets.const_data_ptr<int64_t>();
  const T* bias = data<T>(in.bias);
  // Logits of words, from rows of the weight.
  auto multiply = [&](const Packed<T>& features, int64_t rows, int64_t word, int64_t words, T* to) {
    auto columns = [&](const auto* from, int64_t width) {
      features.columns(0, rows, words, from + word * width, width, to, stride, nullptr, false);
    };
    if (lies_in_pairs(in.weight)) return columns(bits<const Pair>(in.weight), in.width / 2);
    columns(static_cast<const T*>(data<T>(in.weight)), in.width);
  };
  T on = 1 - in.smoothing, off = in.smoothing / in.words;
  double loss = 0;
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    auto [begin, end] = split(in.rows, chunks, chunk);
    int64_t rows = end - begin, padded = (rows + kernel.panel - 1) / kernel.panel * kernel.panel;
    auto features = Packed<T>::transposed(in.features.narrow(0, begin, rows), in.pairs);
    std::vector<Packed<T>> parts_of_features;
    if (needs[1])
      for (int64_t from = 0; from < rows; from += kDepth)
        parts_of_features.push_back(
            Packed<T>::straight(in.features.narrow(0, begin + from, std::min(kDepth, rows - from)), in.pairs));
    const int64_t* target = targets + begin;
    // The parts of the words are as many whoever computes them, so that their sums are the same.
    auto part_of = [&](int64_t index) {
      T *maximum = data<T>(seen) + index * 3 * stride, *sum = maximum + stride, *total = sum + stride;
      return std::tuple(maximum, sum, total);
    };
    auto blocks = [&](int64_t index, const auto& f) {
      auto [first, last] = split(in.words, parts_of_words, index);
      for (int64_t word = first; word < last; word += kWords) {
        int64_t words = std::min(kWords, last - word);
        f(word, words, data<T>(logits) + word * stride, bias ? bias + word : nullptr);
      }
    };
    auto at_targets = [&](int64_t word, int64_t words, const auto& f) {
      for (int64_t i = 0; i < rows; i++)
        if (target[i] >= word && target[i] < word + words) f(i, target[i] - word);
    };
    run_parts(parts_of_words, work, [&](int64_t index) {
      auto [maximum, sum, total] = part_of(index);
      std::fill_n(maximum, stride, std::numeric_limits<T>::lowest());
      std::fill_n(sum, 2 * stride, T(0));
      blocks(
          index, [&, maximum = maximum, sum = sum, total = total](int64_t word, int64_t words, T* block, const T* b) {
            multiply(features, padded, word, words, block);
            kernel.add_words(block, stride, b, words, padded, maximum, sum, off ? total : nullptr);
            at_targets(word, words,
                       [&](int64_t i, int64_t w) { data<T>(expected)[i] = block[w * stride + i] + (b ? b[w] : T(0)); });
          });
    });
    Buffer<T> top(padded), scale(padded);
    for (int64_t i = 0; i < rows; i++) {
      const T* all = data<T>(seen) + i;
      T largest = all[0], exponentials = 0, everything = 0;
      for (int64_t t = 1; t < parts_of_words; t++) largest = std::max(largest, all[t * 3 * stride]);
      for (int64_t t = 0; t < parts_of_words; t++) {
        exponentials += all[(t * 3 + 1) * stride] * std::exp(all[t * 3 * stride] - largest);
        everything += all[(t * 3 + 2) * stride];
      }
      top[i] = largest;
      scale[i] = 1 / exponentials;
      loss += std::log(double(exponentials)) - on * (double(data<T>(expected)[i]) - largest) -
              off * (double(everything) - double(in.words) * largest);
    }
    if (!learning) continue;
    run_parts(parts_of_words, work, [&](int64_t index) {
      T* part = needs[0] ? data<T>(parts) + index * most * in.width : nullptr;
      if (part) std::fill_n(part, rows * in.width, T(0));
      WeightBlock<T> weights(in.width, in.pairs);
      Buffer<T> hits(kWords);  // how often a word is a target
      blocks(index, [&](int64_t word, int64_t words, T* block, const T* b) {
        T* sums = data<T>(grad_bias) + word;
        kernel.words_backward(block, stride, b, words, rows, top.data(), scale.data(), off, sums);
        at_targets(word, words, [&](int64_t i, int64_t w) {
          block[w * stride + i] -= on;
          hits[w]++;
        });
        for (int64_t w = 0; w < words; w++) sums[w] -= on * hits[w], hits[w] = 0;
        for (size_t i = 0; i < parts_of_features.size(); i++)
          parts_of_features[i].columns(0, in.width, words, block + i * kDepth, stride,
                                       data<T>(grad_weight) + word * in.width, in.width, nullptr, chunk + i > 0);
        if (part) {
          weights.pack(in.weight, word, words);
          weights.apply(block, stride, words, rows, part);
        }
      });
    });
    if (!needs[0]) continue;
    T* sums = data<T>(grad_features) + begin * in.width;
    parallel_for(0, rows * in.width, 16384, [&](int64_t from, int64_t to) {
      std::copy(data<T>(parts) + from, data<T>(parts) + to, sums + from);
      for (int64_t t = 1; t < parts_of_words; t++)
        kernel.add(sums + from, data<T>(parts) + t * most * in.width + from, to - from);
    });
  }
  return loss;
}

}  // namespace

Four linear_cross_entropy_forward(const Tensor& features, const Tensor& weight, const OptionalTensor& bias,
                                  const Tensor& targets, double label_smoothing, Needs<3> needs) {
  check_dim("features", features, 2, 2);
  check_dim("weight", weight, 2, 2);
  check_like("features", features, features.sizes(), features);
  check_like("weight", weight, {weight.size(0), features.size(1)}, features);
  check_optional("bias", bias, {weight.size(0)}, features);
  check_lengths(targets, features.size(0), weight.size(0) - 1, features, "targets");
  TORCH_CHECK_VALUE(label_smoothing >= 0 && label_smoothing <= 1, "label_smoothing is ", label_smoothing,
                    ", expected a number from 0 to 1");
  auto type = features.scalar_type();
  Inputs in{.features = to_compute(features),
            .weight = to_multiply(weight),
            .bias = to_compute(bias),
            .targets = targets.to(at::kLong).contiguous(),
            .smoothing = label_smoothing,
            .pairs = in_pairs(type),
            .rows = features.size(0),
            .width = features.size(1),
            .words = weight.size(0)};
  auto options = in.features.options();
  Tensor loss = at::empty({}, options);
  Tensor grad_features = at::empty({needs[0] ? in.rows : 0, in.width}, options);
  // With no rows nothing is ever written.
  Tensor grad_weight = needs[1] && in.rows ? at::empty({in.words, in.width}, options)
                                           : zeros({needs[1] ? in.words : 0, in.width}, options);
  Tensor grad_bias = zeros({in.words}, options);
  dispatch(in.features, [&](auto zero) {
    using T = decltype(zero);
    *data<T>(loss) = in.rows ? run<T>(in, needs, grad_features, grad_weight, grad_bias) : 0;
  });
  auto made = [&](const Tensor& grad, bool need) {
    return need ? converted(grad, type) : at::empty({0}, features.options());
  };
  return {loss, made(grad_features, needs[0]), made(grad_weight, needs[1]), made(grad_bias, needs[2])};
}

// What forward made, times the gradient of the loss; the inputs are there for autograd to refuse a second derivative.
Three linear_cross_entropy_backward(const Tensor& grad_loss, const Tensor&, const Tensor&, const OptionalTensor&,
                                    const Tensor&, double, const Tensor& grad_features, const Tensor& grad_weight,
                                    const Tensor& grad_bias) {
  // A scalar of more dimensions would widen 16 bits; one of none does not.
  return {scaled(grad_features, grad_loss), scaled(grad_weight, grad_loss), scaled(grad_bias, grad_loss)};
}

}  // namespace s2s::cpu
