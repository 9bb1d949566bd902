// Beam search on a GPU; greedy search is the beam of one. A step is the decoder's products and kernels and then three
// or four of the search, all in memory that is there before the first one. No step waits for the host. The second step
// is captured in a CUDA graph and that is replayed for all others: once a call, since a graph holds the addresses of
// a call's weights and memory, and because capturing costs no more than two steps launched from here.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "ops.h"
#include "replay.h"
#include "search_decoder.h"

namespace s2s::cuda {

namespace {

// Steps between two questions whether all are done, each of which is answered at the next one: 4 to 7 steps run that
// nobody needs, and at least as many are queued while the host waits for an answer.
constexpr int64_t kAsk = 4;

// What is chosen from the decoder's logits, step after step.
class BeamSearch {
 public:
  BeamSearch(const SearchArguments& in, const SearchOptions& options, const SearchDecoder& decoder, bool keep_weights)
      : decoder_(decoder), type_(type_of(in.h0)), like_(in.h0) {
    SearchState& a = state_;
    int64_t batch = in.batch, beam = options.beam, rows = batch * beam;
    a.batch = batch, a.beam = beam, a.vocab = in.vocab, a.source = in.source, a.heads = in.heads;
    a.steps = options.max_length + 1, a.eos = options.eos, a.n_best = options.n_best;
    // Of 2K candidates K go on; a single prefix is done when its best one ends.
    a.chosen = beam > 1 ? std::min(2 * beam, beam * in.vocab) : 1;
    a.kept = std::min(a.chosen, in.vocab), a.slices = (in.vocab + kSlice - 1) / kSlice;
    a.length_penalty = options.length_penalty, a.coverage_penalty = options.coverage_penalty;
    a.logits = data(decoder.logits()), a.weights = data(decoder.weights());
    a.lengths = decoder.lengths(), a.mask = decoder.mask();
    limits_ = to_int64(options.limits), a.limits = int64_data(limits_);
    if (!options.forbidden.empty()) forbid(options.forbidden);
    a.step = integers(1), a.remaining = integers(1), remaining_ = memory_.back();
    a.alive = integers(batch), a.factors = exact(a.steps + 2);
    a.most = exact(rows * a.slices), a.total = exact(rows * a.slices), a.values = exact(rows * a.slices * a.kept);
    a.tokens = integers(rows * a.slices * a.kept), a.taken = integers(rows * a.slices);
    a.row_most = exact(rows), a.row_log = exact(rows), a.scores = exact(rows), a.next_scores = exact(rows);
    a.next_tokens = integers(rows), a.origins = integers(rows);
    a.path_tokens = integers(rows * a.steps), a.path_parents = integers(rows * a.steps);
    a.ended = exact(rows * a.steps), a.ended_parents = integers(rows * a.steps);
    if (keep_weights) a.history = exact(rows * a.steps * in.source);
    if (options.coverage_penalty != 0) {
      a.attended = exact(rows * in.source), a.next_attended = exact(rows * in.source);
      a.coverage = exact(rows);
    }
    advance_ = decoder.advance();
    search_start(a, type_, stream());
  }

  void run() {
    auto all_done = reached_zero(remaining_);
    std::function<void()> next = [this] { step(false); };
    for (int64_t t = 0; t < state_.steps; t++) {
      if (t % kAsk == 0 && all_done()) break;
      if (t == 1 && state_.steps > kWorthCapturing && wants_graph(true))
        if (auto replay = captured(like_, next)) next = replay;
      if (t == 0)
        step(true);
      else
        next();
    }
  }

  void read(const SearchOutputs& out) const { search_read(state_, out, type_, stream()); }

 private:
  cudaStream_t stream() const { return current_stream(like_); }  // another one while a step is captured

  void step(bool first) {
    decoder_.step(first);
    search_candidates(state_, type_, stream());
    if (state_.history || state_.attended) search_look(state_, type_, stream());
    search_select(state_, type_, stream());
    search_advance(state_, advance_, type_, stream());
  }

  void* memory(int64_t size, at::ScalarType type) {
    memory_.push_back(at::empty({size}, like_.options().dtype(type)));
    return data(memory_.back());
  }
  void* exact(int64_t size) { return memory(size, accumulate_type(like_.scalar_type())); }
  int32_t* integers(int64_t size) { return static_cast<int32_t*>(memory(size, at::kInt)); }

  void forbid(at::IntArrayRef tokens) {
    memory_.push_back(at::zeros({state_.vocab}, like_.options().dtype(at::kByte)));
    auto* forbidden = static_cast<uint8_t*>(data(memory_.back()));
    for (size_t i = 0; i < tokens.size(); i += kForbiddenOnce) {
      Forbidden list;
      size_t count = std::min<size_t>(kForbiddenOnce, tokens.size() - i);
      for (size_t j = 0; j < count; j++) list.tokens[j] = static_cast<int32_t>(tokens[i + j]);
      search_forbid(forbidden, list, count, stream());
    }
    state_.forbidden = forbidden;
  }

  const SearchDecoder& decoder_;
  Type type_;
  Tensor like_, limits_, remaining_;
  Tensors memory_;
  SearchState state_{};
  SearchAdvance advance_;
};

}  // namespace

Four beam_search(const SearchInputs& inputs, const SearchOptions& options, bool return_weights) {
  c10::DeviceGuard guard(inputs.keys.device());
  SearchArguments in(inputs, contiguous);
  options.check(in);
  auto integers = inputs.keys.options().dtype(at::kLong);
  auto exact = inputs.keys.options().dtype(accumulate_type(inputs.keys.scalar_type()));
  Tensor ids = at::empty({in.batch, options.n_best, options.max_length + 1}, integers),
         tokens = at::empty({in.batch, options.n_best}, integers);
  Tensor scores = at::empty({in.batch, options.n_best}, exact);
  Tensor weights = at::empty({0}, exact);
  if (return_weights) weights = at::empty({in.batch, options.n_best, options.max_length + 1, in.source}, exact);
  if (in.batch) {
    SearchDecoder decoder(in, options.beam, inputs.lengths, inputs.mask, options.bos);
    BeamSearch search(in, options, decoder, return_weights);
    search.run();
    search.read({static_cast<int64_t*>(data(ids)), static_cast<int64_t*>(data(tokens)), data(scores), data(weights)});
  }
  return {ids, tokens, scores, weights};
}

}  // namespace s2s::cuda
