// Gradients of the keys and of v, which sum over the queries.
#include "additive_attention_tile.cuh"

namespace s2s::cuda {

namespace {

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
