// What a search holds: its beginning, where each step looked, and what the next starts from.
#include "../math/search.h"
#include "beam_search_order.cuh"

namespace s2s::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) search_start_kernel(SearchState a) {
  using A = Accumulate<T>;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, rows = a.batch * a.beam;
  if (i == 0) *a.step = 0, *a.remaining = static_cast<int32_t>(a.batch);
  if (i < a.batch) a.alive[i] = 1;
  if (i < rows) as<A>(a.scores)[i] = i % a.beam ? kMinusInfinity<A> : A(0);  // the others are copies of the same prefix
  if (i < a.steps + 2) as<A>(a.factors)[i] = math::length_factor<A>(i, a.length_penalty);
  if (i < rows * a.steps) as<A>(a.ended)[i] = kMinusInfinity<A>;
  if (a.attended && i < rows * a.source) as<A>(a.attended)[i] = 0;
}

__global__ void search_forbid_kernel(uint8_t* forbidden, Forbidden list, int64_t count) {
  if (threadIdx.x < count) forbidden[list.tokens[threadIdx.x]] = 1;
}

// A row a warp.
template <class T>
__global__ void __launch_bounds__(kThreads) search_look_kernel(SearchState a) {
  using A = Accumulate<T>;
  int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes, b = row / a.beam;
  if (b >= a.batch || !a.alive[b]) return;
  int64_t length = a.lengths ? a.lengths[b] : a.source;
  A terms = 0;
  for (int64_t s = threadIdx.x % kLanes; s < a.source; s += kLanes) {
    A looked = 0;
    for (int64_t n = 0; n < a.heads; n++) looked += as<A>(a.weights)[(row * a.heads + n) * a.source + s];
    if (a.heads > 0) looked /= static_cast<A>(a.heads);
    if (a.history) as<A>(a.history)[(*a.step * a.batch * a.beam + row) * a.source + s] = looked;
    if (!a.attended) continue;
    looked += as<A>(a.attended)[row * a.source + s];
    as<A>(a.next_attended)[row * a.source + s] = looked;
    if (s < length && (!a.mask || a.mask[b * a.source + s])) terms += math::coverage_term(looked);
  }
  if (!a.attended) return;
  terms = warp_sum(terms);
  if (threadIdx.x % kLanes == 0) as<A>(a.coverage)[row] = terms;
}

// A row's next kThreads elements a block.
template <class T>
__global__ void __launch_bounds__(kThreads) search_advance_kernel(SearchState a, SearchAdvance to, int64_t chunks) {
  using A = Accumulate<T>;
  if (blockIdx.x == 0 && threadIdx.x == 0) ++*a.step;
  int64_t row = blockIdx.x / chunks, j = blockIdx.x % chunks * kThreads + threadIdx.x;
  if (!a.alive[row / a.beam]) return;
  int64_t origin = a.origins[row], token = a.next_tokens[row];
  if (j < to.hidden) {
    A h = as<A>(to.next_h)[origin * to.hidden + j];
    as<A>(to.h)[row * to.hidden + j] = h;
    if (to.rounded_h) as<T>(to.rounded_h)[row * to.hidden + j] = static_cast<T>(h);
    if (to.next_c) as<A>(to.c)[row * to.hidden + j] = as<A>(to.next_c)[origin * to.hidden + j];
  }
  if (j < to.inputs) {
    T x = as<T>(to.embedding)[token * to.inputs + j];
    as<T>(to.x)[row * to.x_stride + j] = x;
    if (to.more_x) as<T>(to.more_x)[row * to.more_x_stride + j] = x;
  }
  if (to.fed && j < to.feed)
    as<T>(to.next_fed)[row * to.next_fed_stride + j] = as<T>(to.fed)[origin * to.fed_stride + j];
  if (a.attended && j < a.source) as<A>(a.attended)[row * a.source + j] = as<A>(a.next_attended)[origin * a.source + j];
}

}  // namespace

void search_start(const SearchState& a, Type type, cudaStream_t stream) {
  int64_t rows = a.batch * a.beam, size = rows * a.steps > a.steps + 2 ? rows * a.steps : a.steps + 2;
  if (a.attended && rows * a.source > size) size = rows * a.source;
  dispatch(type, [&](auto zero) { launch(search_start_kernel<decltype(zero)>, blocks_of(size), kThreads, stream, a); });
}

void search_forbid(uint8_t* forbidden, const Forbidden& list, int64_t count, cudaStream_t stream) {
  launch(search_forbid_kernel, 1, kForbiddenOnce, stream, forbidden, list, count);
}

void search_look(const SearchState& a, Type type, cudaStream_t stream) {
  int64_t blocks = (a.batch * a.beam + kWarps - 1) / kWarps;
  dispatch(type, [&](auto zero) { launch(search_look_kernel<decltype(zero)>, blocks, kThreads, stream, a); });
}

void search_advance(const SearchState& a, const SearchAdvance& b, Type type, cudaStream_t stream) {
  int64_t widest = b.hidden > b.inputs ? b.hidden : b.inputs;
  if (b.feed > widest) widest = b.feed;
  if (a.attended && a.source > widest) widest = a.source;
  int64_t chunks = blocks_of(widest);
  dispatch(type, [&](auto zero) {
    launch(search_advance_kernel<decltype(zero)>, a.batch * a.beam * chunks, kThreads, stream, a, b, chunks);
  });
}

}  // namespace s2s::cuda
