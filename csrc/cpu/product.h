// Large matrix products on the kernels of the recurrences: blocks of B are packed as they are needed, so B may be rows
// that lie anywhere. A library's product is as fast where it is tuned for the machine, and half as fast where not.
#pragma once

#include <cstring>
#include <memory>
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

// A block of C: some rows of A, and so many panels of B, which lie packed. What the kernel reads of both stays in the
// second-level cache.
constexpr int64_t kPanels = 16;
// Products summed one after the other. A gradient is a sum over all rows of the batch and steps: in one go it would
// lose digits that a sum a step keeps.
constexpr int64_t kDepth = kDeepest, kDepthOfGradients = 128;
// As much of k is packed at once: of any k, the packed panels are at most 2 MB of float32.
constexpr int64_t kSlab = 1024;
static_assert(kSlab % kDepth == 0 && kSlab % kDepthOfGradients == 0);

// How numbers lie for the kernel: as they are,
template <class T>
struct Plain {
  using Element = T;
  static constexpr int64_t rows = 48, numbers = 1;
  static int64_t size(int64_t k) { return k; }
  static auto gemm(bool transposed) { return transposed ? kernels<T>().gemm_transposed : kernels<T>().gemm; }

  // Rows of a (m, k), or columns of its transpose (k, m); and their stride. Columns are copied: a few of each row are
  // read for every panel of B, and rows lie on as many pages.
  static std::pair<const T*, int64_t> block(bool transposed, int64_t m, int64_t k, const T* a, int64_t stride,
                                            Buffer<T>& buffer) {
    if (!transposed) return spread(m, k, a, stride, buffer);
    buffer.resize(std::max<size_t>(buffer.size(), m * k));
    for (int64_t p = 0; p < k; p++) std::copy_n(a + p * stride, m, buffer.data() + p * m);
    return {buffer.data(), m};
  }

  // A panel of k rows in place.
  template <class Pack>
  static void panel(int64_t, int64_t, const Pack& pack, Buffer<T>&, T* out) {
    pack(out);
  }
};

// or as pairs of bfloat16;
struct Paired {
  using Element = Pair;
  static constexpr int64_t rows = 64, numbers = 1;  // of rows a matrix unit takes 32 at once
  static int64_t size(int64_t k) { return pairs_of(k); }
  static auto gemm(bool transposed) { return transposed ? pair_kernels()->gemm_transposed : pair_kernels()->gemm; }

  static std::pair<const Pair*, int64_t> block(bool transposed, int64_t m, int64_t k, const float* a, int64_t stride,
                                               Buffer<Pair>& buffer) {
    buffer.resize(m * pairs_of(k));
    if (transposed)
      pair_kernels()->pair_columns(k, m, a, stride, buffer.data(), m);
    else
      pair_kernels()->pair_rows(m, k, a, stride, buffer.data());
    return {buffer.data(), transposed ? m : pairs_of(k)};
  }

  template <class Pack>
  static void panel(int64_t k, int64_t width, const Pack& pack, Buffer<float>& buffer, Pair* out) {
    buffer.resize(k * width);
    pack(buffer.data());
    pair_kernels()->pair_columns(k, width, buffer.data(), width, out, width);
  }
};

// or as pairs that are there already: k, and what is between rows of A, counts them.
struct Lying {
  using Element = Pair;
  static constexpr int64_t rows = Paired::rows, numbers = 2;
  static int64_t size(int64_t k) { return k; }
  static auto gemm(bool transposed) { return Paired::gemm(transposed); }

  static std::pair<const Pair*, int64_t> block(bool, int64_t, int64_t, const Pair* a, int64_t stride, Buffer<Pair>&) {
    return {a, stride};
  }

  template <class Pack>
  static void panel(int64_t, int64_t, const Pack& pack, Buffer<float>&, Pair* out) {
    pack(out);
  }
};

// The loops around the kernel. pack(p, depth, column, width, out): rows p.. and columns column.. of B as a panel.
// transposed: a is (k, m), its rows a.stride apart, and c has one group of m rows.
template <class Way, class A, class T, class Pack>
void blocked(bool transposed, const RowBlocks<const A>& a, const RowBlocks<T>& c, int64_t n, int64_t k,
             const Pack& pack, const T* bias, bool accumulate) {
  using E = typename Way::Element;
  auto gemm = Way::gemm(transposed);
  int64_t panel = kernels<T>().panel, panels = (n + panel - 1) / panel;
  int64_t blocks_of_group = (c.count + Way::rows - 1) / Way::rows, blocks = c.groups * blocks_of_group;
  if (blocks == 0 || panels == 0) return;
  double work = 2.0 * c.groups * c.count * n * k * Way::numbers;
  int64_t threads = work < 2e6 ? 1 : parts_for(num_threads());
  int64_t column_parts = std::min(threads, panels);
  // Each part packs its B, and copies its A where that is transposed: then the longer side is the one to divide.
  if (transposed && c.count > n) column_parts = std::max<int64_t>(threads / std::min(threads, blocks), 1);
  column_parts = std::min(column_parts, panels);
  int64_t row_parts = std::min(std::max<int64_t>(threads / column_parts, 1), blocks);
  constexpr int64_t slab_of = kSlab / Way::numbers;
  int64_t deepest = (transposed ? kDepthOfGradients : kDepth) / Way::numbers;
  auto tasks = [&](int64_t begin, int64_t end) {
    // Kept for the next product: fresh memory would cost more than what is written to it.
    thread_local Buffer<E> b, rows_of_a;
    thread_local Buffer<T> wide;
    b.resize(std::max<size_t>(b.size(), std::min(kPanels, panels) * panel * Way::size(std::min(k, slab_of))));
    for (int64_t task = begin; task < end; task++) {
      auto [first_panel, last_panel] = split(panels, column_parts, task % column_parts);
      auto [first_block, last_block] = split(blocks, row_parts, task / column_parts);
      for (int64_t from = first_panel; from < last_panel; from += kPanels)
        for (int64_t slab = 0; slab == 0 || slab < k; slab += slab_of) {
          int64_t to = std::min(from + kPanels, last_panel), column = from * panel;
          int64_t slab_k = std::min(slab_of, k - slab);
          int64_t width = std::min(n, to * panel) - column, b_width = (to - from) * panel;
          for (int64_t p = 0; p < slab_k; p += deepest)
            for (int64_t i = from; i < to; i++) {
              int64_t depth = std::min(deepest, slab_k - p);
              E* out = b.data() + Way::size(p) * b_width + (i - from) * panel * Way::size(depth);
              Way::panel(
                  depth, panel, [&](auto* to) { pack(slab + p, depth, i * panel, std::min(panel, n - i * panel), to); },
                  wide, out);
            }
          for (int64_t block = first_block; block < last_block; block++) {
            auto [row, next_row] = split(c.count, blocks_of_group, block % blocks_of_group);
            int64_t group = block / blocks_of_group, rows = next_row - row;
            const A* from_a =
                a.first + (transposed ? row + slab * a.stride : group * a.group_stride + row * a.stride + slab);
            auto [a_block, a_stride] = Way::block(transposed, rows, slab_k, from_a, a.stride, rows_of_a);
            T* c_block = c.first + group * c.group_stride + row * c.stride + column;
            for (int64_t p = 0; p == 0 || p < slab_k; p += deepest)
              gemm(rows, width, Way::size(std::min(deepest, slab_k - p)),
                   a_block + Way::size(p) * (transposed ? a_stride : 1), a_stride, b.data() + Way::size(p) * b_width,
                   c_block, c.stride, slab + p == 0 && bias ? bias + column : nullptr, slab + p > 0 || accumulate);
          }
        }
    }
  };
  parallel_for(0, column_parts * row_parts, 1, tasks, work);
}

template <class T, class Pack>
void blocked(bool pairs, bool transposed, const RowBlocks<const T>& a, const RowBlocks<T>& c, int64_t n, int64_t k,
             const Pack& pack, const T* bias, bool accumulate) {
  if constexpr (std::is_same_v<T, float>)
    if (pairs) return blocked<Paired>(transposed, a, c, n, k, pack, bias, accumulate);
  blocked<Plain<T>>(transposed, a, c, n, k, pack, bias, accumulate);
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
  products::blocked<T>(pairs, false, even ? a.merged() : a, even ? c.merged() : c, b.size(1), b.size(0), pack,
                       data<T>(bias), false);
}

// The same of numbers that lie in pairs: c = a w^T (+ bias), a (.., k), w (n, k).
inline void product_of_pairs(const Tensor& a, const Tensor& w, const Tensor& c, const Tensor& bias) {
  const Pair* from = bits<const Pair>(w);
  int64_t n = w.size(0), k = w.size(1) / 2;
  auto to = RowBlocks<float>::of(c).merged();
  auto pack = [&](int64_t p, int64_t depth, int64_t column, int64_t width, Pair* out) {
    pair_kernels()->pack(from + p + column * k, 1, k, depth, width, out);
  };
  products::blocked<products::Lying>(false, RowBlocks<const Pair>{bits<const Pair>(a), to.count, k}, to, n, k, pack,
                                     data<float>(bias), false);
}

// c (m, n) = the sum over all rows p of a_p (m) times b_p (n), or +=: the gradient of a weight. The rows of a are even,
// and apart (rows_apart).
template <class T>
void outer_products(const RowBlocks<const T>& a, const RowPointers<T>& b, const Tensor& c, bool pairs,
                    bool accumulate) {
  int64_t panel = kernels<T>().panel;
  auto pack = [&](int64_t p, int64_t depth, int64_t column, int64_t width, T* out) {
    for (int64_t i = 0; i < depth; i++, out += panel) {
      std::memcpy(out, b[p + i] + column, width * sizeof(T));
      std::fill(out + width, out + panel, T(0));
    }
  };
  products::blocked<T>(pairs, true, a, RowBlocks<T>::of(c), c.size(1), b.size(), pack, nullptr, accumulate);
}

}  // namespace s2s::cpu
