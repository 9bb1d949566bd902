// The outputs of a search that is over.
#include "beam_search_order.cuh"

namespace s2s::cuda {

namespace {

// An output a block, from its last prefix back to the first.
template <class T>
__global__ void __launch_bounds__(kThreads) search_read_kernel(SearchState a, SearchOutputs out, int threads) {
  using A = Accumulate<T>;
  auto& of_warps = block_memory<Item<A>[kWarps]>();
  int64_t output = blockIdx.x, b = output / a.n_best, size = a.steps * a.beam;
  Item<A> found{-kMinusInfinity<A>, -1};
  for (int64_t i = 0; i <= output % a.n_best; i++) {
    Item<A> best{kMinusInfinity<A>, kNone};
    for (int64_t e = threadIdx.x; e < size; e += threads) {
      Item<A> x{as<A>(a.ended)[b * size + e], static_cast<int32_t>(e)};
      if (found.precedes(x) && x.precedes(best)) best = x;
    }
    found = first_of_block(best, of_warps, threads);
  }
  bool real = found.value > kMinusInfinity<A>;
  int64_t end = real ? found.index / a.beam : 0;
  int64_t prefix = real ? a.ended_parents[b * size + found.index] : 0;
  if (threadIdx.x == 0) as<A>(out.scores)[output] = found.value, out.lengths[output] = end;
  for (int64_t t = end + threadIdx.x; t < a.steps; t += threads) out.ids[output * a.steps + t] = a.eos;
  A* weights = out.weights ? as<A>(out.weights) + output * a.steps * a.source : nullptr;
  for (int64_t i = (real ? end + 1 : 0) * a.source + threadIdx.x; weights && i < a.steps * a.source; i += threads)
    weights[i] = 0;
  for (int64_t t = end; real && t >= 0; t--) {
    if (t < end) {
      int64_t at = (b * a.steps + t) * a.beam + prefix;
      if (threadIdx.x == 0) out.ids[output * a.steps + t] = a.path_tokens[at];
      prefix = a.path_parents[at];
    }
    const A* looked = as<A>(a.history) + ((t * a.batch + b) * a.beam + prefix) * a.source;
    for (int64_t s = threadIdx.x; weights && s < a.source; s += threads) weights[t * a.source + s] = looked[s];
  }
}

}  // namespace

void search_read(const SearchState& a, const SearchOutputs& out, Type type, cudaStream_t stream) {
  int threads = threads_for(a.steps * a.beam > a.source ? a.steps * a.beam : a.source);
  dispatch(type, [&](auto zero) {
    launch(search_read_kernel<decltype(zero)>, a.batch * a.n_best, threads, stream, a, out, threads);
  });
}

}  // namespace s2s::cuda
