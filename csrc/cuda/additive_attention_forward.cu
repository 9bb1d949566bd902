// Weights and context. Where there are too few queries to fill a GPU, blocks share the source, and the last of them
// combines what all its splits found.
#include "additive_attention_tile.cuh"
#include "cooperative.cuh"

namespace s2s::cuda {

namespace {

template <class T, int Q>
__device__ T* copy_of_context(const AttentionForward& a, const Tile<Q>& tile) {
  return static_cast<T*>(a.context_copy) + (tile.b * a.heads + tile.n) * a.width;
}

// What the splits of one query found, each against its own maximum, becomes weights and context: in the order of the
// splits, whichever block comes last. same_launch: of this launch's blocks.
template <class T, bool same_launch>
__device__ void combine(const AttentionForward& a, const Tile<1>& tile, int splits, Accumulate<T>* scale) {
  using A = Accumulate<T>;
  auto read = [](const A* p, int64_t i) { return same_launch ? read_exchanged_one(p, i) : p[i]; };
  int64_t row = (tile.b * a.queries + tile.first) * a.heads + tile.n, part = a.width + 2;
  const A* parts = static_cast<const A*>(a.parts) + row * splits * part;
  if (threadIdx.x < splits) {
    A most = kMinusInfinity<A>, total = 0, mine = 0;
    for (int i = 0; i < splits; i++) {
      A other = read(parts, i * part + a.width);
      most = other > most ? other : most;
    }
    for (int i = 0; i < splits; i++) {
      A other = read(parts, i * part + a.width + 1);
      if (other == A(0)) continue;  // no position counts
      A factor = math::exp(read(parts, i * part + a.width) - most);
      if (i == static_cast<int>(threadIdx.x)) mine = factor;
      total += other * factor;
    }
    scale[threadIdx.x] = mine == A(0) ? A(0) : mine / total;
  }
  __syncthreads();
  for (int64_t d = threadIdx.x; a.context && d < a.width; d += kThreads) {
    A sum = 0;
#pragma unroll 4
    for (int i = 0; i < splits; i++) sum += scale[i] * read(parts, i * part + d);
    tile.row(static_cast<T*>(a.context), a.context_strides, a.width, 0)[d] = static_cast<T>(sum);
    if (a.context_copy) copy_of_context<T>(a, tile)[d] = static_cast<T>(sum);
    if (a.exact_context) tile.row(static_cast<A*>(a.exact_context), a.context_strides, a.width, 0)[d] = sum;
  }
  A* e = tile.row(static_cast<A*>(a.exact_weights), a.weights_strides, a.source, 0);
  T* weights = tile.row(static_cast<T*>(a.weights), a.weights_strides, a.source, 0);
  for (int i = 0; i < splits; i++)
    for (int64_t s = a.source * i / splits + threadIdx.x; s < a.source * (i + 1) / splits; s += kThreads) {
      A weight = read(e, s) * scale[i];
      e[s] = weight;
      if (a.weights) weights[s] = static_cast<T>(weight);
    }
}

template <class T, int V, int Q>
__global__ void __launch_bounds__(kThreads, 2) attention_forward_kernel(AttentionForward a, int splits) {
  using A = Accumulate<T>;
  constexpr int P = Q == 1 ? 4 : 2, U = Q == 1 ? 8 : 4;  // positions at once: of scores, and of the context
  constexpr int kSpan = kLanes / (Q * P);                // lanes that have the same score in the end
  struct Memory {
    alignas(16) A near[kNear][Q];
    A partial[Q * V][kThreads], most[Q], total[Q];
  };
  Memory& memory = block_memory<Memory>();
  auto& near = memory.near;
  auto& partial = memory.partial;
  auto &most = memory.most, &total = memory.total;
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, split = blockIdx.x % splits;
  Tile<Q> tile(a, blockIdx.x / splits);
  if (Q == 1 && a.step) tile.step = *a.step;
  int64_t begin = a.source * split / splits, count = a.source * (split + 1) / splits - begin;
  int64_t length = a.source;
  if (a.lengths && a.lengths[tile.b] < length) length = a.lengths[tile.b];
  auto is_valid = [&](int64_t i) {
    return i < count && begin + i < length && (!a.mask || a.mask[tile.b * a.source + begin + i]);
  };
  // Scores, then their exponentials.
  auto row = [&](int q) { return tile.row(static_cast<A*>(a.exact_weights), a.weights_strides, a.source, q) + begin; };
  auto e = [&](int q, int64_t i) -> A& { return count > kNear ? row(q)[i] : near[i][q]; };

  // score = v . tanh(query + key) + bias: P positions a warp
  const T *query[Q], *v = static_cast<const T*>(a.v) + tile.n * a.attention;
  const T* keys = static_cast<const T*>(a.keys) + ((tile.b * a.source + begin) * a.heads + tile.n) * a.attention;
#pragma unroll
  for (int q = 0; q < Q; q++) query[q] = tile.row(static_cast<const T*>(a.query), a.query_strides, a.attention, q);
  for (int64_t first = warp * P; first < count; first += kWarps * P) {
    bool valid[P], any = false;
#pragma unroll
    for (int p = 0; p < P; p++) valid[p] = is_valid(first + p), any |= valid[p];
    A sums[Q * P] = {};
    for (int64_t j = lane * V; any && j < a.attention; j += kLanes * V) {
      A k[P][V], w[V];
#pragma unroll
      for (int p = 0; p < P; p++) load_if<V>(valid[p], keys + (first + p) * a.heads * a.attention + j, k[p]);
      load<V>(v + j, w);
#pragma unroll
      for (int q = 0; q < Q; q++) {
        A x[V];
        load<V>(query[q] + j, x);
#pragma unroll
        for (int p = 0; p < P; p++)
#pragma unroll
          for (int i = 0; i < V; i++) sums[q * P + p] += math::additive_score(w[i], tanh_of_score<T>(x[i] + k[p][i]));
      }
    }
    A score = warp_sums(sums);
    int number = lane / kSpan, q = number / P;
    int64_t i = first + number % P;
    if (lane % kSpan > 0 || q >= tile.count || i >= count) continue;
    bool counts = is_valid(i);
    if (counts && a.bias)
      score += static_cast<A>(static_cast<const T*>(
          a.bias)[tile.b * a.bias_strides.batch + (tile.first + q) * a.bias_strides.step + begin + i]);
    e(q, i) = counts ? score : kMinusInfinity<A>;
  }
  __syncthreads();

  // e = exp(score - maximum): a query a warp
  for (int q = warp; q < tile.count; q += kWarps) {
    A *score = &e(q, 0), m = kMinusInfinity<A>, sum = 0;
    int64_t stride = count > kNear ? 1 : Q;
    for (int64_t i = lane; i < count; i += kLanes) m = score[i * stride] > m ? score[i * stride] : m;
    m = warp_max(m);
    for (int64_t i = lane; i < count; i += kLanes) {
      // In an empty row the maximum is minus infinity itself; beside NaN too, which must stay.
      A x = score[i * stride] == kMinusInfinity<A> ? A(0) : math::exp(score[i * stride] - m);
      score[i * stride] = x;
      sum += x;
    }
    sum = warp_sum(sum);
    if (lane == 0) most[q] = m, total[q] = sum;
  }
  __syncthreads();

  Exchange<A> parts[Q];
  A scale[Q];
#pragma unroll
  for (int q = 0; q < Q; q++) {
    int at = q < tile.count ? q : tile.count - 1;
    int64_t number = (tile.b * a.queries + tile.first + at) * a.heads + tile.n;
    parts[q].base = static_cast<A*>(a.parts) + (number * splits + split) * (a.width + 2);
    scale[q] = splits > 1 ? A(1) : total[at] == A(0) ? A(0) : A(1) / total[at];
    if (splits > 1 && threadIdx.x == 0 && q < tile.count)
      parts[q].write(a.width, most[q]), parts[q].write(a.width + 1, total[q]);
  }

  // context = sum of e value: each thread V columns, and groups of threads share the positions
  int64_t wide = (a.width + V - 1) / V;
  int columns = wide < kThreads ? wide : kThreads, groups = columns ? kThreads / columns : 0;
  int group = columns ? threadIdx.x / columns : 0, column = threadIdx.x - group * columns;
  for (int64_t offset = 0; a.context && offset < a.width; offset += columns * V) {
    int64_t d = offset + column * V;
    bool works = group < groups && d < a.width;
    const T* values = static_cast<const T*>(a.values) + (tile.b * a.source + begin) * a.width + d;
    A sums[Q][V] = {};
    for (int64_t chunk = 0; chunk < count; chunk += kNear) {
      int rest = count - chunk < kNear ? count - chunk : kNear;
      if (count > kNear) {
        __syncthreads();  // all have read the chunk before
        for (int i = threadIdx.x; i < rest * Q; i += kThreads) near[i / Q][i % Q] = e(i % Q, chunk + i / Q);
        __syncthreads();
      }
      for (int i = group; works && i < rest; i += groups * U) {
        A x[U][Q], value[U][V];
#pragma unroll
        for (int u = 0; u < U; u++) {
          int at = i + u * groups;
          bool any = false;
#pragma unroll
          for (int q = 0; q < Q; q++) {  // past the count nobody has written
            x[u][q] = at < rest && q < tile.count ? near[at][q] : A(0);
            any |= x[u][q] != A(0);
          }
          // A value that does not count may hold anything.
          load_if<V>(any, values + (chunk + at) * a.width, value[u]);
        }
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
          for (int q = 0; q < Q; q++)
#pragma unroll
            for (int k = 0; k < V; k++) sums[q][k] += x[u][q] * value[u][k];
      }
    }
    if (groups > 1) {
#pragma unroll
      for (int k = 0; k < Q * V; k++) partial[k][threadIdx.x] = sums[k / V][k % V];
      __syncthreads();
      for (int g = 1; group == 0 && g < groups; g++)
#pragma unroll
        for (int k = 0; k < Q * V; k++) sums[k / V][k % V] += partial[k][g * columns + column];
    }
    if (!works || group > 0) continue;
#pragma unroll
    for (int q = 0; q < Q; q++) {
      if (q >= tile.count) continue;
#pragma unroll
      for (int k = 0; k < V; k++) sums[q][k] *= scale[q];
      if (splits > 1) {
#pragma unroll
        for (int k = 0; k < V; k++) parts[q].write(d + k, sums[q][k]);
        continue;
      }
      store<V>(tile.row(static_cast<T*>(a.context), a.context_strides, a.width, q) + d, sums[q]);
      if (Q == 1 && a.context_copy) store<V>(copy_of_context<T>(a, tile) + d, sums[q]);
      if (a.exact_context)
        store<V>(tile.row(static_cast<A*>(a.exact_context), a.context_strides, a.width, q) + d, sums[q]);
    }
  }

  if (a.query_copy && split == 0)
    for (int q = 0; q < tile.count; q++) {
      A* copy = tile.row(static_cast<A*>(a.query_copy), a.query_copy_strides, a.attention, q);
      const T* from = tile.row(static_cast<const T*>(a.query), a.query_strides, a.attention, q);
      for (int64_t j = threadIdx.x; j < a.attention; j += kThreads) copy[j] = static_cast<A>(from[j]);
    }
  __syncthreads();  // all have read e
#pragma unroll
  for (int q = 0; q < Q; q++) {
    if (q >= tile.count) continue;
    T* weights = tile.row(static_cast<T*>(a.weights), a.weights_strides, a.source, q) + begin;
    for (int64_t i = threadIdx.x; i < count; i += kThreads) {
      A weight = e(q, i) * scale[q];
      Exchange<A>{row(q)}.write(i, weight);
      if (a.weights && splits == 1) weights[i] = static_cast<T>(weight);
    }
  }
  // The last block of one query combines. Of many queries that is a launch of its own: here it would cost registers.
  if (splits == 1 || Q > 1) return;

  if constexpr (Q == 1)
    if (is_last(a.arrived + blockIdx.x / splits, splits)) combine<T, true>(a, tile, splits, partial[0]);
}

template <class T>
__global__ void __launch_bounds__(kThreads) attention_combine_kernel(AttentionForward a, int splits) {
  auto& scale = block_memory<Accumulate<T>[kMaxSplits]>();
  combine<T, false>(a, Tile<1>(a, blockIdx.x), splits, scale);
}

}  // namespace

int64_t attention_splits(const AttentionSizes& a) {
  return splits_of(a, a.batch * a.heads * tiles(a, a.queries < kQueries ? 1 : kQueries));
}

void attention_forward(const AttentionForward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int V = kPack<T>;
    using A = Accumulate<T>;
    bool vectors = aligned_sizes<T, V>(a) && aligned<V>(static_cast<const T*>(a.query), a.query_strides) &&
                   aligned<V>(static_cast<const T*>(a.values)) &&
                   aligned<V>(static_cast<const T*>(a.context), a.context_strides) &&
                   aligned<V>(static_cast<const A*>(a.exact_context), a.context_strides) &&
                   aligned<V>(static_cast<const T*>(a.context_copy));
    int splits = static_cast<int>(attention_splits(a));
    bool many = a.queries >= kQueries;
    auto kernel = vectors ? (many ? attention_forward_kernel<T, V, kQueries> : attention_forward_kernel<T, V, 1>)
                          : (many ? attention_forward_kernel<T, 1, kQueries> : attention_forward_kernel<T, 1, 1>);
    launch(kernel, a.batch * a.heads * tiles(a, many ? kQueries : 1) * splits, kThreads, stream, a, splits);
    if (many && splits > 1)
      launch(attention_combine_kernel<T>, a.batch * a.heads * a.queries, kThreads, stream, a, splits);
  });
}

}  // namespace s2s::cuda
