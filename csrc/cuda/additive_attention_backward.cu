// Gradients of the queries and of the scores. As forward, where there are too few queries to fill a GPU, blocks share
// the source and the last of them combines what all found.
//
// The gradient of score s is w_s (g_s - mean), of the weights w and their gradients g, mean = sum w g / sum w. A split
// takes the mean of its own positions; the last block moves what it found to the mean of all, by w_s (own - mean) and
// so the gradient of the query by (own - mean) sum w_s f_s, of its factors f_s = v (1 - tanh^2). That is no larger than
// what it moves: sums of w g f and of w f apart, and one mean in the end, would cancel.
#include "additive_attention_tile.cuh"
#include "cooperative.cuh"

namespace s2s::cuda {

namespace {

// The mean of the weights' gradients, of the positions that were summed.
__device__ double mean_of(double sum, double mass) { return mass == 0 ? 0 : sum / mass; }

template <class T, int Q>
__device__ __forceinline__ void write_grad_query(const AttentionBackward& a, const Tile<Q>& tile, int q, int64_t column,
                                                 T sum) {
  tile.row(static_cast<T*>(a.grad_query), a.grad_query_strides, a.attention, q)[column] = sum;
  if (Q == 1 && a.grad_query_copy)
    tile.row(static_cast<T*>(a.grad_query_copy), a.grad_query_copy_strides, a.attention, q)[column] = sum;
}

// In the order of the splits, whichever block comes last.
template <class T>
__device__ void combine(const AttentionBackward& a, const Tile<1>& tile, int64_t row, int splits) {
  using A = Accumulate<T>;
  struct Memory {
    double sum[kMaxSplits], mass[kMaxSplits], shift[kMaxSplits];  // shift: from a split's mean to that of all
  };
  Memory& memory = block_memory<Memory>();
  const double* moments = a.moments + row * splits * 2;
  int i = threadIdx.x;
  if (i < splits) {
    memory.sum[i] = read_exchanged_one(moments, i * 2);
    memory.mass[i] = read_exchanged_one(moments, i * 2 + 1);
  }
  __syncthreads();
  if (i < splits) {
    double sum = 0, mass = 0;
    for (int k = 0; k < splits; k++) sum += memory.sum[k], mass += memory.mass[k];
    memory.shift[i] = mean_of(memory.sum[i], memory.mass[i]) - mean_of(sum, mass);
  }
  __syncthreads();
  const A* parts = static_cast<const A*>(a.parts) + row * splits * 2 * a.attention;
  for (int64_t j = threadIdx.x; a.grad_query && j < a.attention; j += kThreads) {
    double sum = 0;
    for (int k = 0; k < splits; k++)
      sum += double(read_exchanged_one(parts, (k * 2) * a.attention + j)) +
             memory.shift[k] * double(read_exchanged_one(parts, (k * 2 + 1) * a.attention + j));
    write_grad_query(a, tile, 0, j, static_cast<T>(sum));
  }
  const A* w = tile.row(static_cast<const A*>(a.weights), a.weights_strides, a.source, 0);
  A* grad_scores = tile.row(static_cast<A*>(a.grad_scores), a.weights_strides, a.source, 0);
  for (int k = 0; k < splits; k++)
    for (int64_t s = a.source * k / splits + threadIdx.x; s < a.source * (k + 1) / splits; s += kThreads)
      grad_scores[s] =
          w[s] == A(0) ? A(0)  // whatever the mean is
                       : static_cast<A>(double(read_exchanged_one(grad_scores, s)) + double(w[s]) * memory.shift[k]);
}

template <class T, int V, int Q>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_kernel(AttentionBackward a, int splits_of_one) {
  using A = Accumulate<T>;
  int splits = Q == 1 ? splits_of_one : 1;
  constexpr int P = Q == 1 ? 4 : 2;        // positions at once
  constexpr int kSpan = kLanes / (Q * P);  // lanes that have the same gradient in the end
  auto& near = block_memory<A[kNear][Q]>();
  auto& partial = block_memory<A[kWarps][kLanes * V]>();
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, split = blockIdx.x % splits;
  int64_t row = blockIdx.x / splits, start = a.source * split / splits;
  int64_t count = a.source * (split + 1) / splits - start;  // positions of this block
  Tile<Q> tile(a, row);
  if (Q == 1 && a.step) tile.step = *a.step;
  const T *first[Q], *second[Q];
  const A* weights[Q];
#pragma unroll
  for (int q = 0; q < Q; q++) {
    first[q] = tile.row(static_cast<const T*>(a.grad_context), a.grad_context_strides, a.width, q);
    second[q] = tile.row(static_cast<const T*>(a.more_grad_context), a.more_grad_context_strides, a.width, q);
    weights[q] = tile.row(static_cast<const A*>(a.weights), a.weights_strides, a.source, q) + start;
  }
  auto grad_context = [&](int q, int64_t d, A(&sum)[V]) {
    A x[V] = {}, y[V] = {};
    if (a.grad_context) load<V>(first[q] + d, x);
    if (a.more_grad_context) load<V>(second[q] + d, y);
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = x[i] + y[i];
  };
  auto grad_scores = [&](int q) {
    return tile.row(static_cast<A*>(a.grad_scores), a.weights_strides, a.source, q) + start;
  };
  // Gradients of the weights, then of the scores.
  auto grad = [&](int q, int64_t s) -> A& { return count > kNear ? grad_scores(q)[s] : near[s][q]; };
  int64_t stride = count > kNear ? 1 : Q;  // from one position to the next

  // Gradient of a weight, grad_context . value: P positions a warp
  for (int64_t begin = warp * P; begin < count; begin += kWarps * P) {
    bool wanted[P], any = false;
#pragma unroll
    for (int p = 0; p < P; p++) {
      wanted[p] = false;
#pragma unroll
      for (int q = 0; q < Q; q++) wanted[p] |= begin + p < count && weights[q][begin + p] != A(0);
      any |= wanted[p];
    }
    const T* values = static_cast<const T*>(a.values) + (tile.b * a.source + start + begin) * a.width;
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
    if (lane % kSpan > 0 || q >= tile.count || s >= count) continue;
    if (a.grad_weights)
      sum += static_cast<A>(
          tile.row(static_cast<const T*>(a.grad_weights), a.grad_weights_strides, a.source, q)[start + s]);
    grad(q, s) = sum;
  }
  __syncthreads();

  // Through the softmax, to the gradients of the scores: a query a warp
  for (int q = warp; q < tile.count; q += kWarps) {
    const A* w = tile.row(static_cast<const A*>(a.weights), a.weights_strides, a.source, q) + start;
    A* g = &grad(q, 0);
    // In double: a mean that is rounded, or of weights that do not quite sum to 1, is the same error at every position,
    // and adds up in the gradient of the query, where all else cancels.
    double sum = 0, mass = 0;
    for (int64_t s = lane; s < count; s += kLanes)
      if (w[s] != A(0)) sum += double(w[s]) * double(g[s * stride]), mass += double(w[s]);
    sum = warp_sum(sum), mass = warp_sum(mass);
    double mean = mean_of(sum, mass);
    A* result = grad_scores(q);
    for (int64_t s = lane; s < count; s += kLanes) {
      A x = w[s] == A(0) ? A(0) : w[s] * static_cast<A>(double(g[s * stride]) - mean);
      g[s * stride] = x;
      if (splits == 1) result[s] = x;
    }
    if (splits > 1 && lane == 0) {
      Exchange<double> moments{a.moments + (row * splits + split) * 2};
      moments.write(0, sum), moments.write(1, mass);
    }
  }
  __syncthreads();

  // Gradient of the query: each lane its columns, each warp its positions, then a sum over the warps. Positions are
  // summed a thousand at a time: in one long sum the gradients of later ones, all small, would lose digits. One query
  // has a second sum, of its factors by their weights, for who combines splits. v is every term's, and comes last.
  constexpr int64_t kTogether = 1024;
  constexpr int K = Q == 1 ? 2 : Q;  // sums
  static_assert(kTogether % (kWarps * P) == 0);
  A* scores[Q];
#pragma unroll
  for (int q = 0; q < Q; q++) scores[q] = &grad(q, 0);
  const T* v = static_cast<const T*>(a.v) + tile.n * a.attention;
  for (int64_t begin = 0; a.grad_query && begin < a.attention; begin += kLanes * V) {
    int64_t j = begin + lane * V;
    A query[Q][V] = {}, total[K] = {};  // total: of column threadIdx.x of these
#pragma unroll
    for (int q = 0; q < Q; q++)
      if (j < a.attention)
        load<V>(tile.row(static_cast<const A*>(a.query), a.query_strides, a.attention, q) + j, query[q]);
    for (int64_t first = 0; first < count; first += kTogether) {
      A sums[K][V] = {};
      int64_t last = first + kTogether < count ? first + kTogether : count;
      for (int64_t s = first + warp; j < a.attention && s < last; s += kWarps * P) {
        A g[P][K], key[P][V];
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
          if (Q == 1) g[p][K - 1] = splits > 1 && inside ? weights[0][at] : A(0), any |= g[p][K - 1] != A(0);
          const T* keys = static_cast<const T*>(a.keys);
          // A key that does not count may hold anything.
          load_if<V>(any, keys + ((tile.b * a.source + start + at) * a.heads + tile.n) * a.attention + j, key[p]);
        }
#pragma unroll
        for (int p = 0; p < P; p++)
#pragma unroll
          for (int k = 0; k < K; k++)
#pragma unroll
            for (int i = 0; i < V; i++)
              sums[k][i] += math::additive_backward(A(1), tanh_of_score<T>(query[k % Q][i] + key[p][i]), g[p][k]).query;
      }
#pragma unroll
      for (int k = 0; k < K; k++) {
#pragma unroll
        for (int i = 0; i < V; i++) partial[warp][lane * V + i] = sums[k][i];
        __syncthreads();
#pragma unroll
        for (int i = 0; threadIdx.x < kLanes * V && i < kWarps; i++) total[k] += partial[i][threadIdx.x];
        __syncthreads();
      }
    }
    int64_t column = begin + threadIdx.x;
    bool mine = threadIdx.x < kLanes * V && column < a.attention;
#pragma unroll
    for (int k = 0; mine && k < K; k++) total[k] *= static_cast<A>(v[column]);
    if (Q == 1 && splits > 1 && mine) {
      Exchange<A> parts{static_cast<A*>(a.parts) + (row * splits + split) * 2 * a.attention};
      parts.write(column, total[0]), parts.write(a.attention + column, total[K - 1]);
    }
#pragma unroll
    for (int q = 0; q < Q; q++)
      if (splits == 1 && mine && q < tile.count) write_grad_query(a, tile, q, column, static_cast<T>(total[q]));
  }

  for (int64_t d = threadIdx.x * V; a.sum_grad_context && split == 0 && d < a.width; d += kThreads * V)
#pragma unroll
    for (int q = 0; q < Q; q++) {
      if (q >= tile.count) continue;
      A sum[V];
      grad_context(q, d, sum);
      store<V>(tile.row(static_cast<T*>(a.sum_grad_context), a.sum_grad_context_strides, a.width, q) + d, sum);
    }

  if constexpr (Q == 1) {
    if (splits == 1) return;
    __syncthreads();  // all have read the gradients of the scores
    for (int64_t s = threadIdx.x; s < count; s += kThreads) Exchange<A>{grad_scores(0)}.write(s, grad(0, s));
    if (is_last(a.arrived + row, splits)) combine<T>(a, tile, row, splits);
  }
}

// Where tiles of several queries would leave half of a GPU idle, one.
int64_t queries_of_a_block(const AttentionSizes& a) {
  bool many = a.queries >= kQueries && a.batch * a.heads * tiles(a, kQueries) >= kFill / 2;
  return many ? kQueries : 1;
}

}  // namespace

int64_t attention_backward_splits(const AttentionSizes& a) {
  int64_t queries = queries_of_a_block(a);
  return queries > 1 ? 1 : splits_of(a, a.batch * a.heads * tiles(a, queries));
}

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
    bool many = queries_of_a_block(a) > 1;
    int splits = static_cast<int>(attention_backward_splits(a));
    auto kernel = vectors ? (many ? attention_backward_kernel<T, V, kQueries> : attention_backward_kernel<T, V, 1>)
                          : (many ? attention_backward_kernel<T, 1, kQueries> : attention_backward_kernel<T, 1, 1>);
    launch(kernel, a.batch * a.heads * tiles(a, queries_of_a_block(a)) * splits, kThreads, stream, a, splits);
  });
}

}  // namespace s2s::cuda
