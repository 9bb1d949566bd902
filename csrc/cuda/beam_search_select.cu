// A step's choice: of each slice of the vocabulary its best tokens, of those the best for each sentence.
#include "../math/search.h"
#include "beam_search_order.cuh"

namespace s2s::cuda {

namespace {

constexpr int kEach = kSlice / kLanes;  // tokens of a lane

// The last step that sentence b may make.
__device__ __forceinline__ int64_t limit_of(const SearchState& a, int64_t b) {
  int64_t limit = a.limits ? a.limits[b] : a.steps - 1;
  return limit < 0 ? 0 : limit < a.steps ? limit : a.steps - 1;
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
  struct Memory {
    Candidate<A> of_warps[kWarps];
    int32_t found_by[kWarps], better_by[kWarps];
  };
  Memory& memory = block_memory<Memory>();
  auto& of_warps = memory.of_warps;
  auto &found_by = memory.found_by, &better_by = memory.better_by;
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

}  // namespace

void search_candidates(const SearchState& a, Type type, cudaStream_t stream) {
  int64_t blocks = (a.batch * a.beam * a.slices + kWarps - 1) / kWarps;
  dispatch(type, [&](auto zero) { launch(search_candidates_kernel<decltype(zero)>, blocks, kThreads, stream, a); });
}

void search_select(const SearchState& a, Type type, cudaStream_t stream) {
  int threads = threads_for(a.beam * a.slices);
  dispatch(type,
           [&](auto zero) { launch(search_select_kernel<decltype(zero)>, a.batch, threads, stream, a, threads); });
}

}  // namespace s2s::cuda
