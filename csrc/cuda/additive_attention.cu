// A block takes up to Q queries of one row and head, so that a key and a value are read once for all of them, and a
// warp several positions at once, so that their loads are on their way together. The scores of up to kNear positions
// lie in shared memory, those of more in the weights, an output in any case. Sums run in a fixed order; there are no
// atomics.
#include "../math/additive.h"
#include "additive_attention.cuh"
#include "device.cuh"

namespace s2s::cuda {

namespace {

constexpr int kQueries = 4;                      // Q where there are several queries
constexpr int64_t kFill = 264, kMaxSplits = 64;  // blocks that keep the largest GPU busy
constexpr int64_t kSmallestSplit = 64;           // source positions
constexpr int64_t kNear = 256;                   // source positions whose scores lie in shared memory

int64_t tiles(const AttentionSizes& a, int64_t queries) { return (a.queries + queries - 1) / queries; }

// Queries first..first + count of row b and head n, and pointers to what belongs to query number q of them.
template <int Q>
struct Tile {
  int64_t b, n, first;
  int count;

  __device__ Tile(const AttentionSizes& a, int64_t index) {
    int64_t per_row = (a.queries + Q - 1) / Q;
    n = index % a.heads;
    first = index / a.heads % per_row * Q;
    b = index / a.heads / per_row;
    count = a.queries - first < Q ? a.queries - first : Q;
  }

  // `size` elements a head. Past the count the last query again: computed, never written.
  template <class X>
  __device__ X* row(X* p, Strides strides, int64_t size, int q) const {
    int64_t t = first + (q < count ? q : count - 1);
    return p + b * strides.batch + t * strides.step + n * size;
  }
};

// Between bfloat16 tensors as one instruction: its relative error of 2^-11 is a quarter of one rounding of theirs. The
// emulation makes as large an error, so that the tests judge it.
template <class T, class A>
__device__ __forceinline__ A tanh_of_score(A x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
#ifdef S2S_EMULATED
    return math::bits_to_float((math::float_to_bits(math::tanh(x)) + 0x1000) & -0x2000);
#else
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
  } else {
    return math::tanh(x);
  }
}

template <class T, int V, int Q>
__global__ void __launch_bounds__(kThreads, 2) attention_forward_kernel(AttentionForward a, int splits) {
  using A = Accumulate<T>;
  constexpr int P = Q == 1 ? 4 : 2, U = Q == 1 ? 8 : 4;  // positions at once: of scores, and of the context
  constexpr int kSpan = kLanes / (Q * P);                // lanes that have the same score in the end
  alignas(16) __shared__ A near[kNear][Q];
  __shared__ A partial[Q * V][kThreads], most[Q], total[Q];
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, split = blockIdx.x % splits;
  Tile<Q> tile(a, blockIdx.x / splits);
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

  A* parts[Q];
  A scale[Q];
#pragma unroll
  for (int q = 0; q < Q; q++) {
    int at = q < tile.count ? q : tile.count - 1;
    int64_t number = (tile.b * a.queries + tile.first + at) * a.heads + tile.n;
    parts[q] = static_cast<A*>(a.parts) + (number * splits + split) * (a.width + 2);
    scale[q] = splits > 1 ? A(1) : total[at] == A(0) ? A(0) : A(1) / total[at];
    if (splits > 1 && threadIdx.x == 0 && q < tile.count) parts[q][a.width] = most[q], parts[q][a.width + 1] = total[q];
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
          for (int q = 0; q < Q; q++) x[u][q] = at < rest ? near[at][q] : A(0), any |= x[u][q] != A(0);
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
        for (int k = 0; k < V; k++) parts[q][d + k] = sums[q][k];
        continue;
      }
      store<V>(tile.row(static_cast<T*>(a.context), a.context_strides, a.width, q) + d, sums[q]);
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
      row(q)[i] = weight;
      if (a.weights && splits == 1) weights[i] = static_cast<T>(weight);
    }
  }
}

// What the splits of one query found, each against its own maximum, becomes weights and context.
template <class T>
__global__ void __launch_bounds__(kThreads) attention_combine_kernel(AttentionForward a, int splits) {
  using A = Accumulate<T>;
  __shared__ A scale[kMaxSplits];
  Tile<1> tile(a, blockIdx.x);
  int64_t row = (tile.b * a.queries + tile.first) * a.heads + tile.n, part = a.width + 2;
  const A* parts = static_cast<const A*>(a.parts) + row * splits * part;
  if (threadIdx.x < splits) {
    A most = kMinusInfinity<A>, total = 0;
    for (int i = 0; i < splits; i++) most = parts[i * part + a.width] > most ? parts[i * part + a.width] : most;
    for (int i = 0; i < splits; i++)
      if (parts[i * part + a.width + 1] != A(0))
        total += parts[i * part + a.width + 1] * math::exp(parts[i * part + a.width] - most);
    bool counts = parts[threadIdx.x * part + a.width + 1] != A(0);
    scale[threadIdx.x] = counts ? math::exp(parts[threadIdx.x * part + a.width] - most) / total : A(0);
  }
  __syncthreads();
  for (int64_t d = threadIdx.x; a.context && d < a.width; d += kThreads) {
    A sum = 0;
    for (int i = 0; i < splits; i++) sum += scale[i] * parts[i * part + d];
    tile.row(static_cast<T*>(a.context), a.context_strides, a.width, 0)[d] = static_cast<T>(sum);
    if (a.exact_context) tile.row(static_cast<A*>(a.exact_context), a.context_strides, a.width, 0)[d] = sum;
  }
  A* e = tile.row(static_cast<A*>(a.exact_weights), a.weights_strides, a.source, 0);
  T* weights = tile.row(static_cast<T*>(a.weights), a.weights_strides, a.source, 0);
  for (int i = 0; i < splits; i++)
    for (int64_t s = a.source * i / splits + threadIdx.x; s < a.source * (i + 1) / splits; s += kThreads) {
      e[s] *= scale[i];
      if (a.weights) weights[s] = static_cast<T>(e[s]);
    }
}

template <class T, int V, int Q>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_kernel(AttentionBackward a) {
  using A = Accumulate<T>;
  constexpr int P = Q == 1 ? 4 : 2;        // positions at once
  constexpr int kSpan = kLanes / (Q * P);  // lanes that have the same gradient in the end
  __shared__ A near[kNear][Q], partial[kWarps][kLanes * V];
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  Tile<Q> tile(a, blockIdx.x);
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

  // Gradient of the query: each lane its columns, each warp its positions, then a sum over the warps
  A* scores[Q];
#pragma unroll
  for (int q = 0; q < Q; q++) scores[q] = &grad(q, 0);
  const T* v = static_cast<const T*>(a.v) + tile.n * a.attention;
  for (int64_t begin = 0; a.grad_query && begin < a.attention; begin += kLanes * V) {
    int64_t j = begin + lane * V;
    A query[Q][V] = {}, w[V] = {}, sums[Q][V] = {};
    if (j < a.attention) {
      load<V>(v + j, w);
#pragma unroll
      for (int q = 0; q < Q; q++)
        load<V>(tile.row(static_cast<const A*>(a.query), a.query_strides, a.attention, q) + j, query[q]);
    }
    for (int64_t s = warp; j < a.attention && s < a.source; s += kWarps * P) {
      A g[P][Q], key[P][V];
#pragma unroll
      for (int p = 0; p < P; p++) {
        int64_t at = s + p * kWarps;
        bool any = false, inside = at < a.source;
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
      int64_t column = begin + threadIdx.x;
      if (threadIdx.x < kLanes * V && column < a.attention && q < tile.count) {
        A sum = 0;
#pragma unroll
        for (int i = 0; i < kWarps; i++) sum += partial[i][threadIdx.x];
        tile.row(static_cast<T*>(a.grad_query), a.grad_query_strides, a.attention, q)[column] = static_cast<T>(sum);
      }
      __syncthreads();
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
  __shared__ A partial[kWarps][kLanes * V];
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

// Whether all rows of all tensors may be read V elements at a time.
template <class T, int V, class A>
bool aligned_sizes(const A& a) {
  return a.attention % V == 0 && a.width % V == 0 && aligned<V>(static_cast<const T*>(a.keys)) &&
         aligned<V>(static_cast<const T*>(a.v));
}

}  // namespace

int64_t attention_splits(const AttentionSizes& a) {
  int64_t blocks = a.batch * a.heads * tiles(a, a.queries < kQueries ? 1 : kQueries);
  if (blocks == 0 || blocks >= kFill) return 1;
  int64_t splits = kFill / blocks, most = a.source / kSmallestSplit;
  splits = splits < most ? splits : most;
  return splits < 1 ? 1 : splits < kMaxSplits ? splits : kMaxSplits;
}

void attention_forward(const AttentionForward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int V = kPack<T>;
    using A = Accumulate<T>;
    bool vectors = aligned_sizes<T, V>(a) && aligned<V>(static_cast<const T*>(a.query), a.query_strides) &&
                   aligned<V>(static_cast<const T*>(a.values)) &&
                   aligned<V>(static_cast<const T*>(a.context), a.context_strides) &&
                   aligned<V>(static_cast<const A*>(a.exact_context), a.context_strides);
    int splits = static_cast<int>(attention_splits(a));
    bool many = a.queries >= kQueries;
    auto kernel = vectors ? (many ? attention_forward_kernel<T, V, kQueries> : attention_forward_kernel<T, V, 1>)
                          : (many ? attention_forward_kernel<T, 1, kQueries> : attention_forward_kernel<T, 1, 1>);
    launch(kernel, a.batch * a.heads * tiles(a, many ? kQueries : 1) * splits, kThreads, stream, a, splits);
    if (splits > 1) launch(attention_combine_kernel<T>, a.batch * a.heads * a.queries, kThreads, stream, a, splits);
  });
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
