#include "source_block.cuh"

namespace s2s::cuda {

namespace {

// What the blocks hand each other besides the gradients of the gates.
template <class T>
struct Handed {
  Exchange<T> grad_queries;
  Exchange<float> parts;
};

// Of a block's rows, over the columns of its part: the gradients of the scores at step t, then of the query.
template <int gates, class T>
__device__ void attend_backward(const PersistentAttentionBackward& p, const SourceBlock<gates, T>& source,
                                const Handed<T>& handed, int64_t t, bool is_fed) {
  constexpr int V = kPack<T>, P = 4, kWide = kPack<float>;  // P: positions of a warp at once
  const PersistentSource& s = source.s;
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  float *grads = source.weights, *scratch = grads + s.span;  // of the scores; what follows is used twice
  source.each_item([&](const auto& item) {
    int64_t query_at = (item.b * (p.cell.steps + 1) + t), score_at = query_at * s.source;
    __syncthreads();  // all have read what the item before left
    for (int i = lane * kWide; is_fed && i < s.span; i += kLanes * kWide) {
      float sums[kWide] = {};
      for (int slice = warp; slice < source.slices; slice += kWarps) {
        Pack<kWide, float> more = handed.parts.read((slice * source.rows + item.row) * s.span + i);
#pragma unroll
        for (int k = 0; k < kWide; k++) sums[k] += more.at[k];
      }
      store<kWide>(scratch + warp * s.span + i, sums);
    }
    __syncthreads();
    if (warp == 0) {
      const float* weights = static_cast<const float*>(p.weights) + score_at;
      double sum = 0, mass = 0;  // as in additive_attention_backward.cu
      for (int i = lane; i < s.source; i += kLanes) {
        float grad = 0, weight = weights[i];
        for (int k = 0; is_fed && k < kWarps; k++) grad += scratch[k * s.span + i];
        grads[i] = grad;
        if (weight != 0.0f) sum += double(weight) * double(grad), mass += double(weight);
      }
      sum = warp_sum(sum), mass = warp_sum(mass);
      double mean = mass == 0 ? 0 : sum / mass;
      for (int i = lane; i < s.source; i += kLanes) {
        float weight = weights[i], x = 0;
        if (weight != 0.0f) x = weight * static_cast<float>(double(grads[i]) - mean);
        grads[i] = x += read_or_zero<float, float>(p.given_scores, score_at + i);
        if (item.part == 0) static_cast<float*>(p.grad_scores)[score_at + i] = x;
      }
    }
    __syncthreads();
    float *query = scratch, *v = query + item.columns, *partial = v + item.columns;
    for (int j = threadIdx.x; j < item.columns; j += kThreads) {
      query[j] = static_cast<const float*>(p.queries)[query_at * s.attention + item.begin + j];
      v[j] = static_cast<float>(static_cast<const T*>(s.v)[item.begin + j]);
    }
    __syncthreads();
    for (int j = lane * V; j < item.columns; j += kLanes * V) {
      float x[V], w[V], sums[V] = {};
      load<V>(query + j, x);
      load<V>(v + j, w);
      for (int first = warp; first < s.source; first += kWarps * P) {
        float grad[P], key[P][V];
#pragma unroll
        for (int k = 0; k < P; k++) {
          int i = first + k * kWarps;
          grad[k] = i < s.source ? grads[i] : 0.0f;
          source.load_key(item, grad[k] != 0.0f, i, j, key[k]);
        }
#pragma unroll
        for (int k = 0; k < P; k++)
#pragma unroll
          for (int n = 0; n < V; n++)
            sums[n] += math::additive_backward(w[n], tanh_of_score<T>(x[n] + key[k][n]), grad[k]).query;
      }
      store<V>(partial + warp * item.columns + j, sums);
    }
    __syncthreads();
    for (int j = threadIdx.x; j < item.columns; j += kThreads) {
      float sum = 0;
#pragma unroll
      for (int k = 0; k < kWarps; k++) sum += partial[k * item.columns + j];
      T grad = static_cast<T>(sum);
      int column = item.begin + j;
      handed.grad_queries.write(source.operand_at(item.row, column), grad);
      static_cast<T*>(p.grad_queries)[item.b * p.grad_query_strides.batch + t * p.grad_query_strides.step + column] =
          grad;
    }
  });
}

template <int gates, class T>
__global__ void __launch_bounds__(kThreads, 1) persistent_attention_backward_kernel(PersistentAttentionBackward p) {
  const CellBackward& a = p.cell;
  PersistentBlock<T, kTile> block(p.division, gates, a.batch, true);
  SourceBlock<gates, T> source(p.source, block, a.batch, a.hidden);
  int64_t hidden = a.hidden, j = block.j, attention = p.source.attention;
  int group = blockIdx.x / block.slices, rows = p.division.tiles * kTile;
  Handed<T> handed{{static_cast<T*>(p.exchanged_grad_queries) + group * rows * attention},
                   {p.exchanged_parts + static_cast<int64_t>(group) * block.slices * rows * p.source.span}};
  auto query_product = block.product;
  query_product.right = reinterpret_cast<T*>(shared_memory() + p.w_query_at);
  query_product.depth = static_cast<int>(attention) / kTile;
  auto fill = [&](const auto& product, const void* weight) {
    product.fill(
        [&](int k, int column) { return static_cast<const T*>(weight)[k * hidden + block.slice * kTile + column]; });
  };
  fill(block.product, p.weight);
  fill(query_product, p.w_query);
  source.fill();
  for (int row = block.slice; row < source.rows; row += block.slices)  // which are in tiles, but not in the batch
    for (int i = threadIdx.x; source.first_row + row >= a.batch && i < attention; i += kThreads)
      handed.grad_queries.write(source.operand_at(row, i), static_cast<T>(0.0f));
  block.read_states(gates == 4, a.grad_h, a.grad_c, hidden, a.batch);
  for (int64_t t = a.steps; t >= 0; t--) {
    bool has_gates = t < a.steps;  // no gates follow the last query
    for (int tile = 0; has_gates && tile < block.tiles; tile++) {
      int64_t b = block.batch_row(tile);
      float grad_gates_h[gates] = {}, grad_gates_x[gates] = {}, grad_c = gates == 4 ? block.c(tile) : 0.0f;
      if (b < a.batch) backward_element<gates, T>(a, t, b, j, block.h(tile), grad_c, grad_gates_h, grad_gates_x);
      if (gates == 4) block.c(tile) = grad_c;
      __syncthreads();  // all have read what lay there
#pragma unroll
      for (int i = 0; i < gates; i++) {
        block.give(t, tile, i, grad_gates_h[i]);
        source.weights[(block.row * gates + i) * kTile + block.unit] = grad_gates_x[i];
      }
      __syncthreads();
      source.sum_gates(tile, block.row, block.unit, source.weights, [&](int row, int i, float sum) {
        handed.parts.write((block.slice * source.rows + tile * kTile + row) * source.s.span + i, sum);
      });
    }
    if (has_gates) {
      block.barrier.arrive();
      block.barrier.wait();  // for the gradients of the gates
    }
    attend_backward(p, source, handed, t, has_gates && !(t == 0 && p.has_first));
    block.barrier.arrive();
    for (int tile = 0; has_gates && tile < block.tiles; tile++) {  // while the others attend
      block.multiply(t, tile);
      block.h(tile) += block.product.at(block.row, block.unit);
    }
    block.barrier.wait();  // for the gradients of the queries
    for (int tile = 0; tile < block.tiles; tile++) {
      if (tile > 0) __syncthreads();
      query_product.sum(handed.grad_queries.from(source.operand_at(tile * kTile, 0)));
      __syncthreads();
      block.h(tile) += block.product.at(block.row, block.unit);
    }
  }
  block.write_states(gates == 4, a.grad_h, a.grad_c, hidden, a.batch);
}

}  // namespace

void persistent_attention_backward(int64_t gates, const PersistentAttentionBackward& p, Type type,
                                   cudaStream_t stream) {
  launch_persistent(gates, p, type, stream, [](auto gates, auto zero) {
    return persistent_attention_backward_kernel<decltype(gates)::value, decltype(zero)>;
  });
}

}  // namespace s2s::cuda
