// Gradients of the queries and scores, then of the keys and v, which sum over the queries.
#include "additive_attention_tile.cuh"

namespace s2s::cuda {

namespace {

template <class T, int V, int Q>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_kernel(AttentionBackward a) {
  using A = Accumulate<T>;
  constexpr int P = Q == 1 ? 4 : 2;        // positions at once
  constexpr int kSpan = kLanes / (Q * P);  // lanes that have the same gradient in the end
  auto& near = block_memory<A[kNear][Q]>();
  auto& partial = block_memory<A[kWarps][kLanes * V]>();
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  Tile<Q> tile(a, blockIdx.x);
  if (Q == 1 && a.step) tile.step = *a.step;
  const T *first[Q], *second[Q];
  const A* weights[Q];
#pragma unroll
  for (int q = 0; q < Q; q++) {
    first[q] = tile.row(static_cast<const T*>(a.grad_context), a.grad_context_strides, a.width, q);
    second[q] = tile.row(static_cast<const T*>(a.more_grad_context), a.more_grad_context_strides, a.width, q);
    weights[q] = tile.row(static_cast<const A*>(a.weights), a.weights_strides, a.source, q);
  }
  auto grad_context = [&](int q, int64_t d, A(&sum)[V]) {
    A x[V] = {}, y[V] = {};
    if (a.grad_context) load<V>(first[q] + d, x);
    if (a.more_grad_context) load<V>(second[q] + d, y);
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = x[i] + y[i];
  };
  // Gradients of the weights, then of the scores.
  auto grad = [&](int q, int64_t s) -> A& {
    return a.source > kNear ? tile.row(static_cast<A*>(a.grad_scores), a.weights_strides, a.source, q)[s] : near[s][q];
  };
  int64_t stride = a.source > kNear ? 1 : Q;  // from one position to the next

  // Gradient of a weight, grad_context . value: P positions a warp
  for (int64_t begin = warp * P; begin < a.source; begin += kWarps * P) {
    bool wanted[P], any = false;
#pragma unroll
    for (int p = 0; p < P; p++) {
      wanted[p] = false;
#pragma unroll
      for (int q = 0; q < Q; q++) wanted[p] |= begin + p < a.source && weights[q][begin + p] != A(0);
      any |= wanted[p];
    }
    const T* values = static_cast<const T*>(a.values) + (tile.b * a.source + begin) * a.width;
    A sums[Q * P] = {};
    for (int64_t d = lane * V; any && d < a.width; d += kLanes * V) {
      A value[P][V];
#pragma unroll
      for (int p = 0; p < P; p++) load_if<V>(wanted[p], values + p * a.width + d, value[p]);
#pragma unroll
      for (int q = 0; q < Q; q++) {
        A c[V];
        grad_context(q, d, c);
#pragma unroll
        for (int p = 0; p < P; p++)
#pragma unroll
          for (int i = 0; i < V; i++) sums[q * P + p] += c[i] * value[p][i];
      }
    }
    A sum = warp_sums(sums);
    int number = lane / kSpan, q = number / P;
    int64_t s = begin + number % P;
    if (lane % kSpan > 0 || q >= tile.count || s >= a.source) continue;
    if (a.grad_weights)
      sum += static_cast<A>(tile.row(static_cast<const T*>(a.grad_weights), a.grad_weights_strides, a.source, q)[s]);
    grad(q, s) = sum;
  }
  __syncthreads();

  // Through the softmax, to the gradients of the scores: a query a warp
  for (int q = warp; q < tile.count; q += kWarps) {
    const A* w = tile.row(static_cast<const A*>(a.weights), a.weights_strides, a.source, q);
    A* result = tile.row(static_cast<A*>(a.grad_scores), a.weights_strides, a.source, q);
    A* g = &grad(q, 0);
    // In double: a mean that is rounded, or of weights that do not quite sum to 1, is the same error at every position,
    // and adds up in the gradient of the query, where all else cancels.
    double sum = 0, mass = 0;
    for (int64_t s = lane; s < a.source; s += kLanes)
      if (w[s] != A(0)) sum += double(w[s]) * double(g[s * stride]), mass += double(w[s]);
    sum = warp_sum(sum), mass = warp_sum(mass);
    double mean = mass == 0 ? 0 : sum / mass;
    for (int64_t s = lane; s < a.source; s += kLanes) {
      A x = w[s] == A(0) ? A(0) : w[s] * static_cast<A>(double(g[s * stride]) - mean);
      g[s * stride] = x;
      result[s] = x;
    }
  }
  __syncthreads();

  // Gradient of the query: each lane its columns, each warp its positions, then a sum over the warps. Positions are
  // summed a thousand at a time: in one long sum the gradients of later ones, all small, would lose digits.
  constexpr int64_t kTogether = 1024;
  static_assert(kTogether % (kWarps * P) == 0);
  A* scores[Q];
#pragma unroll
  for (int q = 0; q < Q; q++) scores[q] = &grad(q, 0);
  const T* v = static_cast<const T*>(a.v) + tile.n * a.attention;
  for (int64_t begin = 0; a.grad_query && begin < a.attention; begin += kLanes * V) {
    int64_t j = begin + lane * V;
    A query[Q][V] = {}, w[V] = {}, total[Q] = {};  // total: of column threadIdx.x of these
    if (j < a.attention) {
      load<V>(v + j, w);
#pragma unroll
      for (int q = 0; q < Q; q++)
        load<V>(tile.row(static_cast<const A*>(a.query), a.query_strides, a.attention, q) + j, query[q]);
    }
    for (int64_t first = 0; first < a.source; first += kTogether) {
      A sums[Q][V] = {};
      int64_t last = first + kTogether < a.source ? first + kTogether : a.source;
      for (int64_t s = first + warp; j < a.attention && s < last; s += kWarps * P) {
        A g[P][Q], key[P][V];
#pragma unroll
        for (int p = 0; p < P; p++) {
          int64_t at = s + p * kWarps;
          bool any = false, inside = at < last;
#pragma unroll
          for (int q = 0; q < Q; q++) {
            A x = scores[q][(inside ? at : 0) * stride];
            g[p][q] = inside && q < tile.count ? x : A(0);
            any |= g[p][q] != A(0);
          }
          const T* keys = static_cast<const T*>(a.keys);
          // A key that does not count may hold anything.
          load_if<V>(any, keys + ((tile.b * a.source + at) * a.heads + tile.n) * a.attention + j, key[p]);
        }
#pragma unroll
        for (int p = 0; p < P; p++)
#pragma unroll
          for (int q = 0; q < Q; q++)
#pragma unroll
            for (int i = 0; i < V; i++)
              sums[q][i] += math::additive_backward(w[i], tanh_of_score<T>(query[q][i] + key[p][i]), g[p][q]).query;
      }
#pragma unroll
      for (int q = 0; q < Q; q++) {
#pragma unroll
        for (int i = 0; i < V; i++) partial[warp][lane * V + i] = sums[q][i];
        __syncthreads();
#pragma unroll
        for (int i = 0; threadIdx.x < kLanes * V && i < kWarps; i++) total[q] += partial[i][threadIdx.x];
        __syncthreads();
      }
    }
    int64_t column = begin + threadIdx.x;
#pragma unroll
    for (int q = 0; q < Q; q++)
      if (threadIdx.x < kLanes * V && column < a.attention && q < tile.count) {
        T sum = static_cast<T>(total[q]);
        tile.row(static_cast<T*>(a.grad_query), a.grad_query_strides, a.attention, q)[column] = sum;
        if (Q == 1 && a.grad_query_copy)
          tile.row(static_cast<T*>(a.grad_query_copy), a.grad_query_copy_strides, a.attention, q)[column] = sum;
      }
  }

  for (int64_t d = threadIdx.x * V; a.sum_grad_context && d < a.width; d += kThreads * V)
#pragma unroll
    for (int q = 0; q < Q; q++) {
      if (q >= tile.count) continue;
      A sum[V];
      grad_context(q, d, sum);
      store<V>(tile.row(static_cast<T*>(a.sum_grad_context), a.sum_grad_context_strides, a.width, q) + d, sum);
    }
}

// A warp holds its columns of one key in registers and goes over all queries.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    attention_source_backward_kernel(AttentionSourceBackward a, int64_t groups, int64_t chunks) {
  using A = Accumulate<T>;
  constexpr int P = 4;  // queries at once
  auto& partial = block_memory<A[kWarps][kLanes * V]>();
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  int64_t begin = blockIdx.x % chunks * kLanes * V, group = blockIdx.x / chunks % groups;
  int64_t n = blockIdx.x / chunks / groups % a.heads, b = blockIdx.x / chunks / groups / a.heads;
  int64_t s = group * kWarps + warp, j = begin + lane * V;
  int64_t at = ((b * a.source + s) * a.heads + n) * a.attention + j;
  A grad_v[V] = {};
  if (s < a.source && j < a.attention) {
    A key[V], v[V], grad_key[V] = {};
    load<V>(static_cast<const T*>(a.keys) + at, key);
    load<V>(static_cast<const T*>(a.v) + n * a.attention + j, v);
    const A* grad = static_cast<const A*>(a.grad_scores) + b * a.grad_scores_strides.batch + n * a.source + s;
    const A* query = static_cast<const A*>(a.query) + b * a.query_strides.batch + n * a.attention + j;
    for (int64_t t = 0; t < a.queries; t += P) {
      A g[P], x[P][V];
#pragma unroll
      for (int p = 0; p < P; p++) {
        int64_t step = t + p < a.queries ? t + p : t;
        g[p] = t + p < a.queries ? grad[step * a.grad_scores_strides.step] : A(0);
        load<V>(query + step * a.query_strides.step, x[p]);
      }
#pragma unroll
      for (int p = 0; p < P; p++) {
        if (g[p] == A(0)) continue;  // a key that does not count may hold anything
#pragma unroll
        for (int i = 0; i < V; i++) {
          auto made = math::additive_backward(v[i], tanh_of_score<T>(x[p][i] + key[i]), g[p]);
          grad_key[i] += made.query;
          grad_v[i] += made.v;
        }
      }
    }
    store<V>(static_cast<T*>(a.grad_keys) + at, grad_key);
  }
#pragma unroll
  for (int i = 0; i < V; i++) partial[warp][lane * V + i] = grad_v[i];
  __syncthreads();
  int64_t column = begin + threadIdx.x;
  if (threadIdx.x < kLanes * V && column < a.attention) {
    A sum = 0;
#pragma unroll
    for (int i = 0; i < kWarps; i++) sum += partial[i][threadIdx.x];
    static_cast<A*>(a.grad_v)[((b * groups + group) * a.heads + n) * a.attention + column] = sum;
  }
}

}  // namespace

void attention_backward(const AttentionBackward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int V = kPack<T>;
    using A = Accumulate<T>;
    bool vectors = aligned_sizes<T, V>(a) && aligned<V>(static_cast<const A*>(a.query), a.query_strides) &&
                   aligned<V>(static_cast<const T*>(a.values)) &&
                   aligned<V>(static_cast<const T*>(a.grad_context), a.grad_context_strides) &&
                   aligned<V>(static_cast<const T*>(a.more_grad_context), a.more_grad_context_strides) &&
                   aligned<V>(static_cast<const T*>(a.sum_grad_context), a.sum_grad_context_strides);
    bool many = a.queries >= kQueries;
    auto kernel = vectors ? (many ? attention_backward_kernel<T, V, kQueries> : attention_backward_kernel<T, V, 1>)
                          : (many ? attention_backward_kernel<T, 1, kQueries> : attention_backward_kernel<T, 1, 1>);
    launch(kernel, a.batch * a.heads * tiles(a, many ? kQueries : 1), kThreads, stream, a);
  });
}

int64_t source_groups(int64_t source) { return (source + kWarps - 1) / kWarps; }

void attention_source_backward(const AttentionSourceBackward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int V = kPack<T>;
    using A = Accumulate<T>;
    bool vectors = a.attention % V == 0 && aligned<V>(static_cast<const T*>(a.keys)) &&
                   aligned<V>(static_cast<const T*>(a.v)) && aligned<V>(static_cast<const T*>(a.grad_keys)) &&
                   aligned<V>(static_cast<const A*>(a.query), a.query_strides);
    int64_t groups = source_groups(a.source), wide = kLanes * (vectors ? V : 1);
    int64_t chunks = (a.attention + wide - 1) / wide;
    launch(vectors ? attention_source_backward_kernel<T, V> : attention_source_backward_kernel<T, 1>,
           a.batch * a.heads * groups * chunks, kThreads, stream, a, groups, chunks);
  });
}

}  // namespace s2s::cuda
