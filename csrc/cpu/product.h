// Large matrix products on the kernels of the recurrences: blocks of B are packed as they are needed, so B may be rows
// that lie anywhere. A library's product is as fast where it is tuned for the machine, and half as fast where not.
#pragma once

#include <cstring>
#include <vector>

#include "tensors.h"

namespace s2s::cpu {

// `groups` blocks of `count` rows each: row i of block g begins at first + g * group_stride + i * stride.
template <class T>
struct RowBlocks {
  T* first;
  int64_t count, stride, groups = 1, group_stride = 0;

  // Of (rows, N) or (groups, rows, N), N contiguous.
  static RowBlocks of(const Tensor& x) {
    T* first = data<std::remove_const_t<T>>(x);
    if (x.dim() == 2) return {first, x.size(0), x.stride(0)};
    return {first, x.size(1), x.stride(1), x.size(0), x.stride(0)};
  }

  bool even() const { return groups == 1 || group_stride == count * stride; }
  RowBlocks merged() const { return {first, groups * count, stride}; }
};

// The rows (of n numbers) of a B that is scattered in memory.
template <class T>
using RowPointers = std::vector<const T*>;

namespace products {

constexpr int64_t kRows = 48, kPanels = 8;  // a block of B stays in the second-level cache, one of A too
// Products summed one after the other. A gradient is a sum over all rows of the batch and steps: in one go it would
// lose digits that a sum a step keeps.
constexpr int64_t kDepth = 512, kDepthOfGradients = 128;

// The loops around the kernel. pack(p, depth, column, width, out): rows p.. and columns column.. of B as a panel.
// transposed: a is (k, m), its rows a.stride apart, and c has one group of m rows. pairs: see in_pairs.
template <class T, class Pack>
void blocked(bool transposed, bool pairs, const RowBlocks<const T>& a, const RowBlocks<T>& c, int64_t n, int64_t k,
             const Pack& pack, const T* bias, bool accumulate) {
  const auto& kernel = kernels<T>();
  auto gemm = transposed ? kernel.gemm_transposed : kernel.gemm;
  int64_t panel = kernel.panel, panels = (n + panel - 1) / panel;
  int64_t blocks_of_group = (c.count + kRows - 1) / kRows, blocks = c.groups * blocks_of_group;
  if (blocks == 0 || panels == 0) return;
  int64_t threads = 2.0 * c.groups * c.count * n * k < 2e6 ? 1 : at::get_num_threads();
  int64_t column_parts = std::min(threads, panels);
  int64_t row_parts = std::min(std::max<int64_t>(threads / column_parts, 1), blocks);
  int64_t deepest = std::clamp<int64_t>(k, 1, transposed ? kDepthOfGradients : kDepth),
          b_size = kPanels * panel * deepest;
  Tensor packed = at::empty({column_parts * row_parts, b_size}, at::CPU(c10::CppTypeToScalarType<T>::value));
  at::parallel_for(0, column_parts * row_parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<Pair> b_pairs(pairs ? b_size : 0), a_pairs(pairs ? kRows * deepest : 0);
    for (int64_t task = begin; task < end; task++) {
      auto [first_panel, last_panel] = split(panels, column_parts, task % column_parts);
      auto [first_block, last_block] = split(blocks, row_parts, task / column_parts);
      T* b = data<T>(packed) + task * packed.size(1);
      for (int64_t p = 0; p == 0 || p < k; p += deepest) {
        int64_t depth = std::min(deepest, k - p);
        for (int64_t from = first_panel; from < last_panel; from += kPanels) {
          int64_t to = std::min(from + kPanels, last_panel), column = from * panel;
          int64_t width = std::min(n, to * panel) - column;
          for (int64_t i = from; i < to; i++) {
            T* b_panel = b + (i - from) * panel * depth;
            pack(p, depth, i * panel, std::min(panel, n - i * panel), b_panel);
            if constexpr (std::is_same_v<T, float>)
              if (pairs)
                pair_kernels()->pair_columns(depth, panel, b_panel, panel,
                                             b_pairs.data() + (i - from) * panel * pairs_of(depth), panel);
          }
          for (int64_t block = first_block; block < last_block; block++) {
            int64_t group = block / blocks_of_group, row = block % blocks_of_group * kRows;
            int64_t rows = std::min(kRows, c.count - row);
            const T* a_block =
                a.first + (transposed ? p * a.stride + row : group * a.group_stride + row * a.stride + p);
            T* c_block = c.first + group * c.group_stride + row * c.stride + column;
            const T* added = p == 0 && bias ? bias + column : nullptr;
            bool add = p > 0 || accumulate;
            if constexpr (std::is_same_v<T, float>) {
              if (pairs) {
                const PairKernels& with = *pair_kernels();
                int64_t deep = pairs_of(depth);
                if (transposed)
                  with.pair_columns(depth, rows, a_block, a.stride, a_pairs.data(), rows);
                else
                  with.pair_rows(rows, depth, a_block, a.stride, a_pairs.data());
                (transposed ? with.gemm_transposed : with.gemm)(rows, width, deep, a_pairs.data(),
                                                                transposed ? rows : deep, b_pairs.data(), c_block,
                                                                c.stride, added, add);
                continue;
              }
            }
            gemm(rows, width, depth, a_block, a.stride, b, c_block, c.stride, added, add);
          }
        }
      }
    }
  });
}

}  // namespace products

// c = a b (+ bias); b (k, n) with any strides; a and c have the same groups, or one both.
template <class T>
void product(const RowBlocks<const T>& a, const Tensor& b, const RowBlocks<T>& c, bool pairs, const Tensor& bias = {}) {
  const T* from = data<T>(b);
  int64_t k_stride = b.stride(0), n_stride = b.stride(1);
  auto pack = [&](int64_t p, int64_t depth, int64_t column, int64_t width, T* out) {
    kernels<T>().pack(from + p * k_stride + column * n_stride, k_stride, n_stride, depth, width, out);
  };
  bool even = a.even() && c.even();
  products::blocked<T>(false, pairs, even ? a.merged() : a, even ? c.merged() : c, b.size(1), b.size(0), pack,
                       data<T>(bias), false);
}

// c (m, n) += the sum over all rows p of a_p (m) times b_p (n): the gradient of a weight. The rows of a are even.
template <class T>
void add_outer_products(const RowBlocks<const T>& a, const RowPointers<T>& b, const Tensor& c, bool pairs) {
  int64_t panel = kernels<T>().panel;
  auto pack = [&](int64_t p, int64_t depth, int64_t column, int64_t width, T* out) {
    for (int64_t i = 0; i < depth; i++, out += panel) {
      std::memcpy(out, b[p + i] + column, width * sizeof(T));
      std::fill(out + width, out + panel, T(0));
    }
  };
  products::blocked<T>(true, pairs, a, RowBlocks<T>::of(c), c.size(1), b.size(), pack, nullptr, true);
}

}  // namespace s2s::cpu
