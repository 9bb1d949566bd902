// What attention reads: keys and values of a batch, and which source positions of each row are valid.
#pragma once

#include <algorithm>
#include <vector>

#include "tensors.h"

namespace s2s::cpu {

// The valid positions of every row, from lengths and mask.
class Positions {
 public:
  Positions(int64_t batch, int64_t source, const OptionalTensor& lengths, const OptionalTensor& mask) {
    if (!given(lengths) && !given(mask)) {  // one list serves all rows
      for (int64_t s = 0; s < source; s++) positions_.push_back(s);
      starts_.assign(batch, 0);
      counts_.assign(batch, source);
      return;
    }
    Tensor n = given(lengths) ? lengths->to(at::kLong).contiguous() : Tensor();
    Tensor m = given(mask) ? mask->contiguous() : Tensor();
    positions_.reserve(batch * source);
    for (int64_t b = 0; b < batch; b++) {
      int64_t length = n.defined() ? std::clamp<int64_t>(n.const_data_ptr<int64_t>()[b], 0, source) : source;
      starts_.push_back(positions_.size());
      for (int64_t s = 0; s < length; s++)
        if (!m.defined() || m.const_data_ptr<bool>()[b * source + s]) positions_.push_back(s);
      counts_.push_back(positions_.size() - starts_.back());
    }
  }

  const int64_t* begin(int64_t b) const { return positions_.data() + starts_[b]; }
  int64_t count(int64_t b) const { return counts_[b]; }

 private:
  std::vector<int64_t> positions_, starts_, counts_;
};

// Calls f(T(), E()): computed in T, of keys and values in E.
template <class F>
void dispatch_memory(const Tensor& keys, const F& f) {
  switch (keys.scalar_type()) {
    case at::kDouble:
      return f(double(), double());
    case at::kBFloat16:
      return f(float(), BFloat16());
    case at::kHalf:
      return f(float(), Float16());
    default:
      return f(float(), float());
  }
}

// Positions first.. of a source, at most so many.
template <class T, class E>
Source<T, E> tile(Source<T, E> source, int64_t first, int64_t most) {
  source.positions += first, source.count = std::min(source.count - first, most);
  return source;
}

// Sums of a long source: each part of it is summed in T, and the parts in double.
template <class T>
class LongSum {
 public:
  explicit LongSum(int64_t size) { reset(size); }
  LongSum() = default;

  void reset(int64_t size) { part.assign(size, T(0)), sums_.assign(size, 0); }

  void add_part() {
    for (size_t i = 0; i < part.size(); i++) sums_[i] += part[i];
  }
  void write(T* to) const { write(to, sums_.size(), 0); }
  // In rows of `width`, so far apart.
  void write(T* to, int64_t width, int64_t stride) const {
    for (size_t i = 0; i < sums_.size(); i += width, to += stride)
      for (int64_t j = 0; j < width; j++) to[j] = static_cast<T>(sums_[i + j]);
  }

  Buffer<T> part;

 private:
  Buffer<double> sums_;
};

// weights . values
template <class T, class E>
void make_context(const Source<T, E>& source, const T* weights, T* context) {
  const auto& attend = source_kernels<T, E>();
  if (source.count <= kTogether) return attend.context(source, weights, context);
  LongSum<T> sum(source.width);
  for (int64_t first = 0; first < source.count; first += kTogether) {
    attend.context(tile(source, first, kTogether), weights + first, sum.part.data());
    sum.add_part();
  }
  sum.write(context);
}

// Gradients of one query and of v, which was zero, and its part of those of the keys.
template <class T, class E>
void query_backward(const Source<T, E>& source, const T* query, const T* grad_scores, T* grad_query, T* grad_keys,
                    T* grad_v) {
  const auto& attend = source_kernels<T, E>();
  if (source.count <= kTogether)
    return attend.add_one_query_backward(source, query, grad_scores, grad_query, grad_keys, grad_v);
  LongSum<T> of_query(source.attention), of_v(source.attention);
  for (int64_t first = 0; first < source.count; first += kTogether) {
    std::fill(of_v.part.begin(), of_v.part.end(), T(0));
    attend.add_one_query_backward(tile(source, first, kTogether), query, grad_scores + first, of_query.part.data(),
                                  grad_keys, of_v.part.data());
    of_query.add_part(), of_v.add_part();
  }
  of_query.write(grad_query), of_v.write(grad_v);
}

template <class T, class E = T>
struct Memory {
  const E *keys, *values;
  const T* v;
  int64_t positions_all, heads, attention, width;  // S, N, A, D
  const Positions& positions;

  // keys (B, S, N, A), values (B, S, D), v (N, A), contiguous.
  Memory(const Tensor& keys_, const Tensor& values_, const Tensor& v_, const Positions& positions_)
      : keys(bits<E>(keys_)),
        values(bits<E>(values_)),
        v(data<T>(v_)),
        positions_all(keys_.size(1)),
        heads(v_.size(0)),
        attention(v_.size(1)),
        width(values_.size(2)),
        positions(positions_) {}

  // The valid positions of row b as head n sees them.
  Source<T, E> source(int64_t b, int64_t n) const {
    int64_t key_stride = heads * attention;
    return {.keys = keys + b * positions_all * key_stride + n * attention,
            .key_stride = key_stride,
            .values = values + b * positions_all * width,
            .value_stride = width,
            .positions = positions.begin(b),
            .count = positions.count(b),
            .v = v + n * attention,
            .attention = attention,
            .width = width};
  }
};

}  // namespace s2s::cpu
