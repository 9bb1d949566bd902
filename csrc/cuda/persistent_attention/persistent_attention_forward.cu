#include "source_block.cuh"

namespace s2s::cuda {

namespace {

// Scores of the block's rows, each over the columns of its part, for all blocks of the group: minus infinity where a
// position does not count. `scratch`: 2 A numbers of shared memory.
template <int gates, class T>
__device__ void score(const SourceBlock<gates, T>& source, const Exchange<T>& queries, const Exchange<float>& scores,
                      float* scratch) {
  constexpr int V = kPack<T>, P = 4, kSpan = kLanes / P;  // P: positions of a warp at once
  const PersistentSource& s = source.s;
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  source.each_item([&](const auto& item) {
    float *query = scratch, *v = scratch + item.columns;
    __syncthreads();  // all have read those of the item before
    for (int j = threadIdx.x * V; j < item.columns; j += kThreads * V) {
      Pack<V, T> asked = queries.read(item.row * s.attention + item.begin + j);
      float x[V];
      widen(asked, x);
      store<V>(query + j, x);
    }
    for (int j = threadIdx.x; j < item.columns; j += kThreads)
      v[j] = static_cast<float>(static_cast<const T*>(s.v)[item.begin + j]);
    __syncthreads();
    for (int first = warp * P; first < s.span; first += kWarps * P) {
      bool counts[P], any = false;
#pragma unroll
      for (int p = 0; p < P; p++) counts[p] = source.is_valid(item.b, first + p), any |= counts[p];
      float sums[P] = {};
      for (int j = lane * V; any && j < item.columns; j += kLanes * V) {
        float key[P][V], x[V], w[V];
#pragma unroll
        for (int p = 0; p < P; p++) source.load_key(item, counts[p], first + p, j, key[p]);
        load<V>(query + j, x);
        load<V>(v + j, w);
#pragma unroll
        for (int p = 0; p < P; p++)
#pragma unroll
          for (int i = 0; i < V; i++) sums[p] += math::additive_score(w[i], tanh_of_score<T>(x[i] + key[p][i]));
      }
      float sum = warp_sums(sums);
      int i = first + lane / kSpan;
      if (lane % kSpan == 0)
        scores.write((item.part * source.rows + item.row) * s.span + i,
                     source.is_valid(item.b, i) ? sum : kMinusInfinity<float>);
    }
  });
}

// The weights of a tile's rows, from the scores of all parts: in every block the same.
template <int gates, class T>
__device__ void weigh(const SourceBlock<gates, T>& source, const Exchange<float>& scores, int tile) {
  constexpr int V = kPack<float>;
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, span = source.s.span;
  for (int row = warp; row < kTile; row += kWarps) {
    int at = tile * kTile + row;
    if (source.first_row + at >= source.batch) continue;
    float *weights = source.weights + row * span, most = kMinusInfinity<float>, total = 0;
    for (int i = lane * V; i < span; i += kLanes * V) {
      float sums[V] = {};
      for (int part = 0; part < source.s.parts; part++) {
        Pack<V, float> more = scores.read((part * source.rows + at) * span + i);
#pragma unroll
        for (int k = 0; k < V; k++) sums[k] += more.at[k];
      }
#pragma unroll
      for (int k = 0; k < V; k++) most = sums[k] > most ? sums[k] : most;
      store<V>(weights + i, sums);
    }
    most = warp_max(most);
    auto each = [&](auto f) {  // of those that this lane has written
      for (int i = lane * V; i < span; i += kLanes * V)
        for (int k = 0; k < V; k++) f(weights[i + k]);
    };
    // In an empty row the maximum is minus infinity itself; beside NaN too, which must stay.
    each([&](float& x) { total += x = x == kMinusInfinity<float> ? 0.0f : math::exp(x - most); });
    total = warp_sum(total);
    float scale = total == 0.0f ? 0.0f : 1.0f / total;
    each([&](float& x) { x *= scale; });
  }
}

template <int gates, class T>
__global__ void __launch_bounds__(kThreads, 1) persistent_attention_forward_kernel(PersistentAttentionForward p) {
  const CellForward& a = p.cell;
  PersistentBlock<T, (gates + 1) * kTile, kWarps / 2> block(p.division, 1, a.batch, true);
  SourceBlock<gates, T> source(p.source, block, a.batch, a.hidden);
  int64_t hidden = a.hidden, j = block.j, attention = p.source.attention;
  int group = blockIdx.x / block.slices, rows = p.division.tiles * kTile;
  Exchange<T> queries{static_cast<T*>(p.exchanged_queries) + group * rows * attention};
  Exchange<float> scores{p.exchanged_scores + static_cast<int64_t>(group) * p.source.parts * rows * p.source.span};
  // The last columns of the product are the query's.
  bool asks = j < attention;
  block.product.fill([&](int k, int column) {
    int64_t gate = column / kTile, unit = block.slice * kTile + column % kTile;
    if (gate < gates) return static_cast<const T*>(p.weight)[(gate * hidden + unit) * hidden + k];
    return unit < attention ? static_cast<const T*>(p.w_query)[unit * hidden + k] : static_cast<T>(0.0f);
  });
  source.fill();
  float bias[gates + 1];
#pragma unroll
  for (int i = 0; i < gates; i++) bias[i] = read_or_zero<T, float>(p.bias, i * hidden + j);
  bias[gates] = asks ? read_or_zero<T, float>(p.b_query, j) : 0.0f;
  // Of this thread, after its states: h's part of the gates, until the context's is there.
  auto kept = [&](int tile, int gate) -> float& {
    return block.states[((gates == 4 ? 2 : 1) * block.tiles + tile * gates + gate) * kThreads];
  };
  block.read_states(gates == 4, a.h, a.c, hidden, a.batch);
  for (int tile = 0; tile < block.tiles; tile++) block.give(0, tile, 0, block.h(tile));
  block.barrier.arrive();
  for (int64_t step = 0; step <= a.steps; step++) {
    block.barrier.wait();  // for the state
    for (int tile = 0; tile < block.tiles; tile++) {
      block.multiply(step, tile);
#pragma unroll
      for (int i = 0; i < gates; i++) kept(tile, i) = block.product.at(block.row, i * kTile + block.unit) + bias[i];
      if (!asks) continue;
      T query = static_cast<T>(block.product.at(block.row, gates * kTile + block.unit) + bias[gates]);
      queries.write((tile * kTile + block.row) * attention + j, query);
      int64_t b = block.batch_row(tile);
      if (b < a.batch) static_cast<T*>(p.queries)[(b * (a.steps + 1) + step) * attention + j] = query;
    }
    if (step == a.steps) break;
    block.barrier.arrive();
    block.barrier.wait();  // for the queries
    score(source, queries, scores, block.product.partial);
    block.barrier.arrive();
    block.barrier.wait();  // for the scores
    for (int tile = 0; tile < block.tiles; tile++) {
      int64_t b = block.batch_row(tile);
      bool there = b < a.batch;
      float x[gates] = {}, g[gates], fed[gates] = {};
      if (there) read_gates_x<gates, T>(a, step, b, j, x);
      if (tile > 0) __syncthreads();  // all have read the weights of the tile before
      weigh(source, scores, tile);
      __syncthreads();
      if (there) {
        if (step == 0 && p.first_gates)
          read<gates, T>(p.first_gates, b * gates * hidden + j, hidden, fed);
        else
          source.sum_values(tile, block.row, block.unit, fed);
#pragma unroll
        for (int i = 0; i < gates; i++) x[i] += fed[i], g[i] = kept(tile, i);
        auto cell = forward_element<gates, T>(a, step, b, j, x, g, block.h(tile), gates == 4 ? block.c(tile) : 0.0f);
        block.h(tile) = cell.h;
        if (gates == 4) block.c(tile) = cell.c;
      }
      block.give(step + 1, tile, 0, block.h(tile));
    }
    block.barrier.arrive();
  }
  block.write_states(gates == 4, a.h, a.c, hidden, a.batch);
}

}  // namespace

void persistent_attention_forward(int64_t gates, const PersistentAttentionForward& p, Type type, cudaStream_t stream) {
  launch_persistent(gates, p, type, stream, [](auto gates, auto zero) {
    return persistent_attention_forward_kernel<decltype(gates)::value, decltype(zero)>;
  });
}

}  // namespace s2s::cuda
