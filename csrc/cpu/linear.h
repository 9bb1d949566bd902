// A layer of weights that a few rows go through again and again.
#pragma once

#include <utility>

#include "int8/layer.h"
#include "tensors.h"

namespace s2s::cpu {

// Rows as a layer reads them; in 8 bits until the thread reads rows of another layer.
template <class T>
struct LayerRows {
  int64_t count;
  const T* x;
  int64_t stride;
  Int8Rows in_8_bits;
};

// y = x W^T + b. With few rows the weight is read as it lies in memory, in bfloat16 too; with many it is packed. One in
// 8 bits takes the place of `weight`, with any number of rows.
template <class T>
class Linear {
 public:
  Linear() = default;
  // pairs: packed as those, of a weight of to_multiply.
  Linear(const Tensor& weight, const Tensor& bias, bool pack, const Int8Weight& int8 = {}, bool pairs = false)
      : int8_(int8), bias_(bias), outputs_(weight.size(0)), inputs_(weight.size(1)), pack_(pack && !int8.defined()) {
    if (int8.defined()) return;
    if (pack)
      packed_ = Packed<T>::transposed(pairs ? weight : to_compute(weight), pairs);
    else
      weight_ = stored(weight);
  }

  // A weight that is read where it is: float16 is not.
  static Tensor stored(const Tensor& weight) {
    bool bfloat16 = weight.scalar_type() == at::kBFloat16 && kernels<T>().dot_bfloat16;
    return bfloat16 ? weight.contiguous() : to_compute(weight);
  }

  int64_t outputs() const { return outputs_; }

  // The thread's part of the columns.
  std::pair<int64_t, int64_t> part(const Team& team) const {
    int64_t unit = pack_ ? kernels<T>().panel : int8_.defined() ? 4 * kInt8Panel : 16;
    auto [first, last] = team.part((outputs_ + unit - 1) / unit);
    return {first * unit, std::min(outputs_, last * unit)};
  }

  LayerRows<T> read(int64_t m, const T* x, int64_t x_stride) const {
    if constexpr (std::is_same_v<T, float>)
      if (int8_.defined()) return {m, x, x_stride, Int8Rows::of(m, inputs_, x, x_stride)};
    return {m, x, x_stride, {}};
  }

  // Columns begin..end of the rows, begin where a part or a block of one begins; c is that of column `begin`.
  void columns(int64_t begin, int64_t end, const LayerRows<T>& rows, T* c, int64_t c_stride) const {
    auto [m, x, x_stride, in_8_bits] = rows;
    const T* bias = bias_.defined() ? data<T>(bias_) + begin : nullptr;
    if (pack_) return packed_.columns(begin, end, m, x, x_stride, c, c_stride, bias, false);
    if (m == 0 || begin >= end) return;
    if constexpr (std::is_same_v<T, float>)
      if (int8_.defined()) {
        int8_.columns(begin, end, m, inputs_, in_8_bits, c, c_stride);
        for (int64_t i = 0; i < m && bias; i++) kernels<T>().add(c + i * c_stride, bias, end - begin);
        return;
      }
    if (weight_.scalar_type() == at::kBFloat16)
      kernels<T>().dot_bfloat16(m, end - begin, inputs_, x, x_stride,
                                static_cast<const uint16_t*>(weight_.const_data_ptr()) + begin * inputs_, c, c_stride,
                                bias);
    else
      kernels<T>().dot(m, end - begin, inputs_, x, x_stride, data<T>(weight_) + begin * inputs_, c, c_stride, bias);
  }

  // The same of rows of pairs.
  void columns(int64_t begin, int64_t end, int64_t m, const Pair* x, int64_t x_stride, T* c, int64_t c_stride) const {
    packed_.columns(begin, end, m, x, x_stride, c, c_stride, bias_.defined() ? data<T>(bias_) + begin : nullptr, false);
  }

  void apply(const Team& team, int64_t m, const T* x, int64_t x_stride, T* c, int64_t c_stride) const {
    auto [begin, end] = part(team);
    if (begin < end) columns(begin, end, read(m, x, x_stride), c + begin, c_stride);
  }

  void apply_tanh(const Team& team, int64_t m, const T* x, int64_t x_stride, T* c, int64_t c_stride) const {
    apply(team, m, x, x_stride, c, c_stride);
    auto [begin, end] = part(team);
    for (int64_t i = 0; i < m && begin < end; i++) kernels<T>().tanh_rows(c + i * c_stride + begin, end - begin);
  }

 private:
  Int8Weight int8_;
  Tensor weight_, bias_;
  Packed<T> packed_;
  int64_t outputs_ = 0, inputs_ = 0;
  bool pack_ = false;
};

}  // namespace s2s::cpu
