// What is compared has a total order, so that every lane finds the same best, and in every run.
#include <limits>

#include "../math/search.h"
#include "beam_search.cuh"
#include "device.cuh"

namespace s2s::cuda {

namespace {

constexpr int kEach = kSlice / kLanes;  // tokens of a lane
constexpr int32_t kNone = std::numeric_limits<int32_t>::max();

template <class X>
__device__ __forceinline__ X* as(void* p) {
  return static_cast<X*>(p);
}
template <class X>
__device__ __forceinline__ const X* as(const void* p) {
  return static_cast<const X*>(p);
}

template <class X>
__device__ __forceinline__ X of_lane(X x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}

// One of many numbers: the larger first, of equal ones the lower index.
template <class A>
struct Item {
  A value;
  int32_t index;
  __device__ bool precedes(const Item& b) const { return value > b.value || (value == b.value && index < b.index); }
  __device__ Item exchanged(int mask) const { return {of_lane(value, mask), of_lane(index, mask)}; }
};

// A prefix and a token after it.
template <class A>
struct Candidate {
  A score, logit;
  int32_t prefix, token;
  __device__ bool precedes(const Candidate& b) const {
    if (score != b.score) return score > b.score;
    if (prefix != b.prefix) return prefix < b.prefix;
    if (logit != b.logit) return logit > b.logit;
    return token < b.token;
  }
  __device__ Candidate exchanged(int mask) const {
    return {of_lane(score, mask), of_lane(logit, mask), of_lane(prefix, mask), of_lane(token, mask)};
  }
};

template <class X>
__device__ __forceinline__ X first_of_warp(X x) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    X other = x.exchanged(mask);
    if (other.precedes(x)) x = other;
  }
  return x;
}

template <class X>
__device__ __forceinline__ X first_of_block(X x, X (&of_warps)[kWarps], int threads) {
  x = first_of_warp(x);
  if (threadIdx.x % kLanes == 0) of_warps[threadIdx.x / kLanes] = x;
  __syncthreads();
  for (int i = 0; i < threads / kLanes; i++)
    if (of_warps[i].precedes(x)) x = of_warps[i];
  __syncthreads();  // all have read them
  return x;
}

// The last step that sentence b may make.
__device__ __forceinline__ int64_t limit_of(const SearchState& a, int64_t b) {
  int64_t limit = a.limits ? a.limits[b] : a.steps - 1;
  return limit < 0 ? 0 : limit < a.steps ? limit : a.steps - 1;
}

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

// A slice of a row a warp.
template <class T>
__global__ void __launch_bounds__(kThreads) search_candidates_kernel(SearchState a) {
  using A = Accumulate<T>;
  int lane = threadIdx.x % kLanes;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  int64_t row = index / a.slices, b = row / a.beam;
  if (b >= a.batch || !a.alive[b]) return;
  int32_t first = static_cast<int32_t>(index % a.slices * kSlice) + lane, vocab = static_cast<int32_t>(a.vocab);
  const T* logits = as<T>(a.logits) + row * a.vocab;
  A x[kEach], most = kMinusInfinity<A>, sum = 0;
#pragma unroll
  for (int i = 0; i < kEach; i++) {
    int32_t token = first + i * kLanes;
    x[i] = token < vocab ? static_cast<A>(logits[token]) : kMinusInfinity<A>;
    if (x[i] > most) most = x[i];
  }
  most = warp_max(most);
  A from = most == kMinusInfinity<A> ? A(0) : most;
#pragma unroll
  for (int i = 0; i < kEach; i++)
    if (first + i * kLanes < vocab) sum += math::exp(x[i] - from);
  sum = warp_sum(sum);
  if (lane == 0) as<A>(a.most)[index] = most, as<A>(a.total)[index] = sum;

  bool at_limit = *a.step >= limit_of(a, b);
#pragma unroll
  for (int i = 0; i < kEach; i++) {
    int32_t token = first + i * kLanes;
    bool may = at_limit ? token == a.eos : token < vocab && !(a.forbidden && a.forbidden[token]);
    if (!may || x[i] != x[i]) x[i] = kMinusInfinity<A>;  // a NaN is in the sum, and so in every score
  }
  for (int64_t m = 0; m < a.kept; m++) {
    Item<A> best{kMinusInfinity<A>, kNone};
#pragma unroll
    for (int i = 0; i < kEach; i++)
      if (x[i] > best.value) best = {x[i], first + i * kLanes};
    best = first_of_warp(best);
    if (lane == 0) as<A>(a.values)[index * a.kept + m] = best.value, a.tokens[index * a.kept + m] = best.index;
    if (best.value == kMinusInfinity<A>) break;
#pragma unroll
    for (int i = 0; i < kEach; i++)
      if (first + i * kLanes == best.index) x[i] = kMinusInfinity<A>;
  }
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

// The best of the heads of the lists that belong to this thread, those whose number modulo the block's size is its own.
template <class A>
__device__ Candidate<A> first_of_lists(const SearchState& a, int64_t b, int threads) {
  Candidate<A> best{kMinusInfinity<A>, kMinusInfinity<A>, kNone, kNone};
  for (int64_t list = threadIdx.x; list < a.beam * a.slices; list += threads) {
    int64_t row = b * a.beam + list / a.slices, at = b * a.beam * a.slices + list, rank = a.taken[at];
    if (rank >= a.kept) continue;
    A logit = as<A>(a.values)[at * a.kept + rank];
    if (logit == kMinusInfinity<A>) continue;  // what follows was never written
    A score = as<A>(a.scores)[row] + ((logit - as<A>(a.row_most)[row]) - as<A>(a.row_log)[row]);
    Candidate<A> x{score, logit, static_cast<int32_t>(list / a.slices), a.tokens[at * a.kept + rank]};
    if (score > kMinusInfinity<A> && x.precedes(best)) best = x;
  }
  return best;
}

// A sentence a block.
template <class T>
__global__ void __launch_bounds__(kThreads) search_select_kernel(SearchState a, int threads) {
  using A = Accumulate<T>;
  __shared__ Candidate<A> of_warps[kWarps];
  __shared__ int32_t found_by[kWarps], better_by[kWarps];
  int64_t b = blockIdx.x, first_row = b * a.beam;
  if (!a.alive[b]) return;
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  int64_t t = *a.step, limit = limit_of(a, b), first_list = first_row * a.slices, here = (b * a.steps + t) * a.beam;
  for (int64_t j = warp; j < a.beam; j += threads / kLanes) {
    const A* most_of = as<A>(a.most) + (first_row + j) * a.slices;
    A most = kMinusInfinity<A>, sum = 0;
    for (int64_t p = lane; p < a.slices; p += kLanes) most = most_of[p] > most ? most_of[p] : most;
    most = warp_max(most);
    if (most == kMinusInfinity<A>) most = 0;
    for (int64_t p = lane; p < a.slices; p += kLanes)
      sum += as<A>(a.total)[(first_row + j) * a.slices + p] * math::exp(most_of[p] - most);
    sum = warp_sum(sum);
    if (lane == 0) as<A>(a.row_most)[first_row + j] = most, as<A>(a.row_log)[first_row + j] = math::log(sum);
  }
  for (int64_t list = threadIdx.x; list < a.beam * a.slices; list += threads) a.taken[first_list + list] = 0;
  __syncthreads();

  Candidate<A> mine = first_of_lists<A>(a, b, threads);
  int64_t going = 0;
  for (int64_t i = 0; i < a.chosen && (i < a.beam || going < a.beam); i++) {
    Candidate<A> best = first_of_block(mine, of_warps, threads);
    if (best.score == kMinusInfinity<A>) break;
    int64_t list = best.prefix * a.slices + best.token / kSlice;
    if (list % threads == threadIdx.x) {
      a.taken[first_list + list]++;
      mine = first_of_lists<A>(a, b, threads);
    }
    bool ends = best.token == a.eos;
    // Of the candidates that end only those among the K best count; of 2K, K that go on are among them.
    if (threadIdx.x == 0 && ends && i < a.beam) {
      A score = best.score / as<A>(a.factors)[t + 1];
      if (a.attended) score += static_cast<A>(a.coverage_penalty) * as<A>(a.coverage)[first_row + best.prefix];
      as<A>(a.ended)[here + i] = score;
      a.ended_parents[here + i] = best.prefix;
    }
    if (ends || going == a.beam) continue;
    if (threadIdx.x == 0) {
      as<A>(a.next_scores)[first_row + going] = best.score;
      a.next_tokens[first_row + going] = a.path_tokens[here + going] = best.token;
      a.origins[first_row + going] = static_cast<int32_t>(first_row) + best.prefix;
      a.path_parents[here + going] = best.prefix;
    }
    going++;
  }
  __syncthreads();  // the first thread has written, and all have read the old scores

  for (int64_t j = threadIdx.x; j < a.beam; j += threads) {
    as<A>(a.scores)[first_row + j] = j < going ? as<A>(a.next_scores)[first_row + j] : kMinusInfinity<A>;
    if (j < going) continue;
    a.next_tokens[first_row + j] = static_cast<int32_t>(a.eos);
    a.origins[first_row + j] = static_cast<int32_t>(first_row);
  }
  A bound = 0;
  if (going > 0)
    bound = math::score_bound(as<A>(a.next_scores)[first_row], as<A>(a.factors)[t + 2], as<A>(a.factors)[limit + 1]);
  int32_t found = 0, better = 0;
  for (int64_t e = threadIdx.x; e < (t + 1) * a.beam; e += threads) {
    A score = as<A>(a.ended)[b * a.steps * a.beam + e];
    found += score > kMinusInfinity<A>;
    better += score > kMinusInfinity<A> && score >= bound;
  }
  found = warp_sum(found), better = warp_sum(better);
  if (lane == 0) found_by[warp] = found, better_by[warp] = better;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < threads / kLanes; i++) found += found_by[i], better += better_by[i];
  if (t < limit && going > 0 && found < a.beam && better < a.n_best) return;
  a.alive[b] = 0;
  atomicAdd(a.remaining, -1);
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

// An output a block, from its last prefix back to the first.
template <class T>
__global__ void __launch_bounds__(kThreads) search_read_kernel(SearchState a, SearchOutputs out, int threads) {
  using A = Accumulate<T>;
  __shared__ Item<A> of_warps[kWarps];
  int64_t output = blockIdx.x, b = output / a.n_best, size = a.steps * a.beam;
  Item<A> found{std::numeric_limits<A>::infinity(), -1};
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

// Of a block that has no use for more.
int threads_for(int64_t items) {
  int64_t warps = (items + kLanes - 1) / kLanes;
  return static_cast<int>(warps < kWarps ? warps : kWarps) * kLanes;
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

void search_candidates(const SearchState& a, Type type, cudaStream_t stream) {
  int64_t blocks = (a.batch * a.beam * a.slices + kWarps - 1) / kWarps;
  dispatch(type, [&](auto zero) { launch(search_candidates_kernel<decltype(zero)>, blocks, kThreads, stream, a); });
}

void search_look(const SearchState& a, Type type, cudaStream_t stream) {
  int64_t blocks = (a.batch * a.beam + kWarps - 1) / kWarps;
  dispatch(type, [&](auto zero) { launch(search_look_kernel<decltype(zero)>, blocks, kThreads, stream, a); });
}

void search_select(const SearchState& a, Type type, cudaStream_t stream) {
  int threads = threads_for(a.beam * a.slices);
  dispatch(type,
           [&](auto zero) { launch(search_select_kernel<decltype(zero)>, a.batch, threads, stream, a, threads); });
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

void search_read(const SearchState& a, const SearchOutputs& out, Type type, cudaStream_t stream) {
  int threads = threads_for(a.steps * a.beam > a.source ? a.steps * a.beam : a.source);
  dispatch(type, [&](auto zero) {
    launch(search_read_kernel<decltype(zero)>, a.batch * a.n_best, threads, stream, a, out, threads);
  });
}

}  // namespace s2s::cuda
