// What a block of a persistent decoder has of the source: for its units of the state, what the gates take of each value
// of all rows of the group; and of the keys, a part of a row or whole rows.
#pragma once

#include "../additive_attention_tile.cuh"
#include "../persistent_block.cuh"
#include "persistent_attention.cuh"

namespace s2s::cuda {

template <int gates, class T>
struct SourceBlock {
  static constexpr int V = kPack<T>;

  const PersistentSource& s;
  int64_t batch, hidden, first_row;
  int slice, slices, rows;  // rows: of the group
  T *values, *keys;         // in shared memory: (rows, gates, 16, span) and (items, S, columns); null: not there
  float* weights;           // in shared memory: (16, span), of one tile; backward: whatever a phase needs

  // A row and a part of it that this block scores: number `number` of its own.
  struct Item {
    int number, row, part;
    int64_t b;
    int begin, columns;
  };

  template <class Block>
  __device__ SourceBlock(const PersistentSource& s_, const Block& block, int64_t batch_, int64_t hidden_)
      : s(s_), batch(batch_), hidden(hidden_), first_row(block.first_row), slice(block.slice), slices(block.slices) {
    rows = block.tiles * kTile;
    auto at = [](int64_t bytes) { return bytes < 0 ? nullptr : shared_memory() + bytes; };
    values = reinterpret_cast<T*>(at(s.values_at)), keys = reinterpret_cast<T*>(at(s.keys_at));
    weights = reinterpret_cast<float*>(at(s.weights_at));
  }

  __device__ bool is_valid(int64_t b, int64_t i) const {
    return i < s.source && !(s.lengths && i >= s.lengths[b]) && (!s.mask || s.mask[b * s.source + i]);
  }

  template <class F>
  __device__ void each_item(const F& f) const {
    int tiles = static_cast<int>(s.attention) / kTile;
    for (int number = 0, item = slice; item < rows * s.parts; number++, item += slices) {
      int row = item / s.parts, part = item % s.parts;
      int begin = tiles * part / s.parts, end = tiles * (part + 1) / s.parts;
      if (first_row + row < batch) f(Item{number, row, part, first_row + row, begin * kTile, (end - begin) * kTile});
    }
  }

  // Once, before the first step. What does not count may hold anything, NaN too: of values it becomes zero.
  __device__ void fill() const {
    const T* from = static_cast<const T*>(s.values) + slice * kTile;
    for (int i = threadIdx.x; values && i < rows * gates * s.span * kTile; i += kThreads) {
      int unit = i % kTile, at = i / kTile % s.span, gate = i / kTile / s.span % gates,
          row = i / kTile / s.span / gates;
      int64_t b = first_row + row;
      bool counts = b < batch && is_valid(b, at);
      values[((row * gates + gate) * kTile + unit) * s.span + at] =
          counts ? from[(b * s.source + at) * gates * hidden + gate * hidden + unit] : static_cast<T>(0.0f);
    }
    if (!keys) return;
    each_item([&](const Item& item) {
      T* to = keys_of(item);
      for (int i = threadIdx.x * V; i < s.source * item.columns; i += kThreads * V)
        *reinterpret_cast<Pack<V, T>*>(to + i) =
            *reinterpret_cast<const Pack<V, T>*>(key_of(item, i / item.columns) + i % item.columns);
    });
  }

  __device__ T* keys_of(const Item& item) const {
    int most = (static_cast<int>(s.attention) / kTile + s.parts - 1) / s.parts * kTile;
    return keys + item.number * s.source * most;
  }
  __device__ const T* key_of(const Item& item, int64_t i) const {
    return static_cast<const T*>(s.keys) + (item.b * s.source + i) * s.attention + item.begin;
  }
  // V columns of a key, from wherever they are; zeros where it does not count.
  template <class A>
  __device__ void load_key(const Item& item, bool counts, int64_t i, int column, A (&to)[V]) const {
    if (!keys) return load_if<V>(counts, key_of(item, i) + column, to);
#pragma unroll
    for (int k = 0; k < V; k++) to[k] = A(0);
    if (counts) load<V>(keys_of(item) + i * item.columns + column, to);
  }

  // Where element (row of the group, column of A) lies in the left operand of a product A deep.
  __device__ int64_t operand_at(int row, int column) const {
    return static_cast<int64_t>(row / kTile) * kTile * s.attention + column / kTile * kTile * kTile +
           TileSums<T, kTile>::left(row % kTile, column % kTile);
  }

  // What the gates take of a tile's context, a sum of what they take of the values: for one row and unit.
  __device__ void sum_values(int tile, int row, int unit, float (&sums)[gates]) const {
    const float* weight = weights + row * s.span;
    if (values) {
      const T* from = values + ((tile * kTile + row) * gates * kTile + unit) * s.span;
      for (int i = 0; i < s.span; i += V) {
        float w[V], x[V];
        load<V>(weight + i, w);
#pragma unroll
        for (int gate = 0; gate < gates; gate++) {
          load<V>(from + gate * kTile * s.span + i, x);
#pragma unroll
          for (int k = 0; k < V; k++) sums[gate] += w[k] * x[k];
        }
      }
      return;
    }
    constexpr int kTogether = 4;  // positions whose loads are on their way together
    const T* from = static_cast<const T*>(s.values) + slice * kTile + unit;
    from += (first_row + tile * kTile + row) * s.source * gates * hidden;
    for (int i = 0; i < s.source; i += kTogether) {
      T x[kTogether][gates];
      float w[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; k++) {
        w[k] = weight[i + k];
        bool counts = w[k] != 0.0f && i + k < s.source;
#pragma unroll
        for (int gate = 0; gate < gates; gate++)
          x[k][gate] = counts ? from[((i + k) * gates + gate) * hidden] : static_cast<T>(0.0f);
      }
#pragma unroll
      for (int k = 0; k < kTogether; k++)
#pragma unroll
        for (int gate = 0; gate < gates; gate++) sums[gate] += w[k] * static_cast<float>(x[k][gate]);
    }
  }

  // Backward: what these units' gradients of the gates, `grads` (16, gates, 16) in shared memory, make of the gradients
  // of a tile's weights, to give(row, position, sum). Row and lane are those of the thread; all threads.
  template <class F>
  __device__ void sum_gates(int tile, int row, int lane, const float* grads, const F& give) const {
    constexpr int kColumns = gates * kTile;
    const float* grad = grads + row * kColumns;
    int64_t b = first_row + tile * kTile + row;
    if (!values) {
      const T* from = static_cast<const T*>(s.values) + b * s.source * gates * hidden + slice * kTile;
      for (int i = lane; i < s.span; i += kTile) {
        bool counts = b < batch && is_valid(b, i);
        float sum = 0;
#pragma unroll
        for (int k = 0; k < kColumns; k += V) {
          float x[V];
          load_if<V>(counts, from + (static_cast<int64_t>(i) * gates + k / kTile) * hidden + k % kTile, x);
#pragma unroll
          for (int n = 0; n < V; n++) sum += grad[k + n] * x[n];
        }
        give(row, i, sum);
      }
      return;
    }
    // Lanes of a row share its positions, and where those are few, the columns too.
    int packs = s.span / V, ways = packs <= 4 ? 4 : packs <= 8 ? 2 : 1, each = kTile / ways, way = lane / each;
    for (int first = 0; first < packs; first += each) {
      int pack = first + lane % each;
      const T* from = values + (tile * kTile + row) * kColumns * s.span + pack * V;
      float sums[V] = {};
      for (int k = way; pack < packs && k < kColumns; k += ways) {
        float x[V];
        load<V>(from + k * s.span, x);
#pragma unroll
        for (int n = 0; n < V; n++) sums[n] += grad[k] * x[n];
      }
      for (int offset = each; offset < kTile; offset *= 2)
#pragma unroll
        for (int n = 0; n < V; n++) sums[n] += __shfl_xor_sync(0xffffffffu, sums[n], offset);
#pragma unroll
      for (int n = 0; n < V; n++)
        if (way == 0 && pack < packs) give(row, pack * V + n, sums[n]);
    }
  }
};

}  // namespace s2s::cuda
