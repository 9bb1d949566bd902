// Beam search; greedy search is the beam of one. All threads make a step together, each for rows of its own or, with
// few rows, for columns; then each chooses for some sentences, and finished sentences' rows are closed up.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "../math/search.h"
#include "run_search.h"
#include "search_decoder.h"

namespace s2s::cpu {

namespace {

// Puts an item where it belongs among `count` items, best first, after its equals; the last may fall off.
template <class Item>
void insert(Item* items, int64_t* count, int64_t capacity, const Item& item) {
  if (*count == capacity && !(item.score > items[capacity - 1].score)) return;
  int64_t at = *count < capacity ? (*count)++ : capacity - 1;
  for (; at > 0 && item.score > items[at - 1].score; at--) items[at] = items[at - 1];
  items[at] = item;
}

// Of a sentence: a prefix of the next step, or a candidate to be one.
template <class T>
struct Extension {
  T score;
  int64_t parent, token;
};

// An output: the prefix `parent` of step `step`, and then </s>.
template <class T>
struct Finished {
  T score;
  int64_t step, parent;
};

template <class T>
class BeamSearch {
 public:
  // limits: by sentence, or null.
  BeamSearch(const SearchArguments& in, const decoder::Inputs* parts, const Int8Weights* int8,
             const Positions& positions, const SearchOptions& options, const int64_t* limits, bool keep_weights)
      : in_(in),
        positions_(positions),
        options_(options),
        limits_(limits),
        k_(options.beam),
        steps_(options.max_length + 1),
        candidates_(std::min(2 * k_, k_ * in.vocab)),
        work_(step_work(in, parts)),
        // Of one step, not of all: in every step the threads wait for each other some ten times.
        threads_(threads_for(work_ * in.batch * k_)),
        decoder_(in, parts, int8, positions, in.batch * k_, 2 * k_, options.forbidden, options.eos, threads_),
        prefixes_(in.batch * k_),
        finished_(in.batch * k_),
        prefix_count_(in.batch, 1),
        finished_count_(in.batch, 0),
        first_row_(in.batch),
        from_(in.batch * k_),
        scratch_(threads_) {
    auto integers = in.keys.options().dtype(at::kInt);
    tokens_ = at::empty({steps_, in.batch, k_}, integers), parents_ = at::empty({steps_, in.batch, k_}, integers);
    if (keep_weights) weights_ = at::empty({steps_, in.batch, k_, in.source}, in.keys.options());
    if (options.coverage_penalty != 0) {
      attended_.resize(in.batch * k_ * in.source), attended_next_ = attended_;
      if (!keep_weights) step_weights_ = attended_;
    }
    for (int64_t b = 0; b < in.batch; b++) {
      alive_.push_back(b);
      prefixes_[b * k_] = {T(0), 0, options.bos};
    }
  }

  void run() {
    std::vector<Barrier> barriers(threads_ + 1);
    Barrier& all = barriers[threads_];
    place_rows(0);
    run_threads(threads_, work_ * in_.batch * k_ * steps_, barriers, [&](int64_t index, int64_t count) {
      decoder_.prepare(index);
      scratch_[index].resize(candidates_);
      for (auto [i, end] = split(rows_, count, index); i < end; i++) decoder_.start(i, options_.bos);
      all.wait(count);
      for (int64_t t = 0; rows_ > 0; t++) {
        // Rows and words are divided, which decides how sums are rounded, as for all threads, however
        // many have come.
        int64_t groups = groups_of(rows_, threads_), parts = threads_ / groups;
        int64_t teams = std::min(groups, count), size = count / teams, mine = index / size;
        Team team{index % size, size, &barriers[mine]};
        auto [group, end_group] = split(groups, teams, std::min(mine, teams));
        for (; mine < teams && group < end_group; group++) {
          auto [first, last] = split(rows_, groups, group);
          if (t == 0) decoder_.make_first_feed(team, index, first, last - first);
          decoder_.step(team, index, parts, first, last - first, t == 0);
        }
        all.wait(count);
        // With few rows the first thread is done before the others could have been told.
        int64_t choosers = teams == 1 ? 1 : count;
        if (index < choosers) {
          for (auto [i, end] = split(alive_.size(), choosers, index); i < end; i++)
            choose(alive_[i], t, parts, scratch_[index].data());
          all.wait(choosers);
          if (index == 0) place_rows(t + 1);
          all.wait(choosers);
          for (auto [i, end] = split(rows_, choosers, index); i < end; i++) advance(i);
        }
        all.wait(count);
      }
    });
  }

  // ids (B, n, steps), filled with </s>; lengths and scores (B, n), 0 and -inf; weights (B, n, steps, S), 0 or empty.
  void read(const Tensor& ids, const Tensor& lengths, const Tensor& scores, const Tensor& weights) const {
    int64_t size = in_.source;
    for (int64_t b = 0; b < in_.batch; b++) {
      for (int64_t i = 0; i < std::min(options_.n_best, finished_count_[b]); i++) {
        const auto& best = finished_[b * k_ + i];
        int64_t out = b * options_.n_best + i, prefix = best.parent;
        data<T>(scores)[out] = best.score;
        data<int64_t>(lengths)[out] = best.step;
        for (int64_t t = best.step; t >= 0; t--) {
          if (t < best.step) {
            data<int64_t>(ids)[out * steps_ + t] = at(tokens_, t, b)[prefix];
            prefix = at(parents_, t, b)[prefix];
          }
          if (weights_.defined())
            std::copy_n(data<T>(weights_) + ((t * in_.batch + b) * k_ + prefix) * size, size,
                        data<T>(weights) + (out * steps_ + t) * size);
        }
      }
    }
  }

 private:
  void advance(int64_t i) {
    const auto& row = decoder_.row(i);
    decoder_.advance(i, from_[i], prefixes_[row.sentence * k_ + row.prefix].token);
    if (!attended_.empty())
      std::copy_n(attended_next_.data() + from_[i] * in_.source, in_.source, attended_.data() + i * in_.source);
  }

  int32_t* at(const Tensor& history, int64_t t, int64_t b) const {
    return data<int32_t>(history) + (t * in_.batch + b) * k_;
  }

  // Neither NaN nor minus infinity: the score of something that can be found.
  static bool is_real(T score) { return score > -std::numeric_limits<T>::infinity(); }

  int64_t limit(int64_t b) const { return limits_ ? limits_[b] : options_.max_length; }

  T length_factor(int64_t length) const { return math::length_factor<T>(length, options_.length_penalty); }
  T coverage(int64_t b, const T* attended) const {
    T sum = 0;
    for (int64_t i = 0; i < positions_.count(b); i++) sum += math::coverage_term(attended[positions_.begin(b)[i]]);
    return static_cast<T>(options_.coverage_penalty) * sum;
  }

  // What sentence b does after step t. Its new prefixes replace the old ones; none: it is done.
  void choose(int64_t b, int64_t t, int64_t parts, Extension<T>* candidates) {
    Extension<T>* prefixes = &prefixes_[b * k_];
    bool last = t == limit(b);
    int64_t count = 0;
    for (int64_t j = 0; j < prefix_count_[b]; j++) {
      int64_t row = first_row_[b] + j;
      auto [largest, log_sum] = decoder_.log_sum(row, parts);
      auto add = [&, largest = largest, log_sum = log_sum](int64_t token, T logit) {
        T score = prefixes[j].score + ((logit - largest) - log_sum);
        if (is_real(score)) insert(candidates, &count, candidates_, {score, j, token});
      };
      if (last)
        add(options_.eos, decoder_.eos_logit(row));
      else
        decoder_.each_token(row, parts, add);
      if (!attended_.empty()) {
        const T *old = attended_.data() + row * in_.source, *weights = decoder_.row(row).weights;
        T* sum = attended_next_.data() + row * in_.source;
        for (int64_t s = 0; s < in_.source; s++) sum[s] = old[s] + weights[s];
      }
    }
    // Of the candidates that end, only those among the K best count; of 2K, K that go on are among them.
    int64_t& going = prefix_count_[b];
    going = 0;
    for (int64_t i = 0; i < count; i++) {
      const auto& candidate = candidates[i];
      if (candidate.token == options_.eos) {
        if (i >= k_) continue;
        T score = candidate.score / length_factor(t + 1);
        if (!attended_.empty())
          score += coverage(b, attended_next_.data() + (first_row_[b] + candidate.parent) * in_.source);
        if (is_real(score)) insert(&finished_[b * k_], &finished_count_[b], k_, {score, t, candidate.parent});
      } else if (going < k_) {
        at(tokens_, t, b)[going] = candidate.token;
        at(parents_, t, b)[going] = candidate.parent;
        prefixes[going++] = candidate;
      }
    }
    if (last || finished_count_[b] == k_) going = 0;
    if (going == 0 || finished_count_[b] < options_.n_best) return;
    T most = math::score_bound(prefixes[0].score, length_factor(t + 2), length_factor(limit(b) + 1));
    if (finished_[b * k_ + options_.n_best - 1].score >= most) going = 0;
  }

  // The rows of step t, one for every prefix of the sentences that go on.
  void place_rows(int64_t t) {
    size_t kept = 0;
    rows_ = 0;
    for (int64_t b : alive_) {
      if (prefix_count_[b] == 0) continue;
      alive_[kept++] = b;
      int64_t first = rows_;
      for (int64_t j = 0; j < prefix_count_[b]; j++, rows_++) {
        T* weights = weights_.defined()       ? data<T>(weights_) + ((t * in_.batch + b) * k_ + j) * in_.source
                     : !step_weights_.empty() ? step_weights_.data() + rows_ * in_.source
                                              : nullptr;
        decoder_.row(rows_) = {b, j, weights};
        from_[rows_] = first_row_[b] + prefixes_[b * k_ + j].parent;
      }
      first_row_[b] = first;
    }
    alive_.resize(kept);
  }

  const SearchArguments& in_;
  const Positions& positions_;
  const SearchOptions& options_;
  const int64_t* limits_;
  int64_t k_, steps_, candidates_;
  double work_;
  int64_t threads_;
  SearchDecoder<T> decoder_;
  // By sentence: its prefixes, each with the prefix before and the token it ends with, and what has finished.
  std::vector<Extension<T>> prefixes_;
  std::vector<Finished<T>> finished_;
  std::vector<int64_t> prefix_count_, finished_count_, first_row_;
  // By row: which row of the step before it goes on from; the sum of its attention weights.
  std::vector<int64_t> from_;
  Buffer<T> attended_, attended_next_, step_weights_;
  std::vector<std::vector<Extension<T>>> scratch_;  // by thread
  std::vector<int64_t> alive_;
  int64_t rows_ = 0;
  Tensor tokens_, parents_, weights_;  // by step, sentence and prefix: the paths
};

}  // namespace

Four run_search(const SearchArguments& in, const decoder::Inputs* parts, const Int8Weights* int8,
                const OptionalTensor& lengths, const OptionalTensor& mask, const SearchOptions& options,
                bool return_weights) {
  options.check(in);
  Positions positions(in.batch, in.source, lengths, mask);
  Tensor limits_ = given(options.limits) ? options.limits->to(at::kLong).contiguous() : Tensor();
  auto exact = in.keys.options(), integers = exact.dtype(at::kLong);
  Tensor ids = at::full({in.batch, options.n_best, options.max_length + 1}, options.eos, integers);
  Tensor tokens = at::zeros({in.batch, options.n_best}, integers);
  Tensor scores = at::full({in.batch, options.n_best}, -std::numeric_limits<double>::infinity(), exact);
  Tensor weights = return_weights ? at::zeros({in.batch, options.n_best, options.max_length + 1, in.source}, exact)
                                  : nothing(in.keys);
  if (in.batch)
    dispatch(in.keys, [&](auto zero) {
      BeamSearch<decltype(zero)> search(in, parts, int8, positions, options, data<int64_t>(limits_), return_weights);
      search.run();
      search.read(ids, tokens, scores, weights);
    });
  return {ids, tokens, scores, weights};
}

Four beam_search(const SearchInputs& inputs, const SearchOptions& options, bool return_weights) {
  return run_search({inputs, to_compute}, nullptr, nullptr, inputs.lengths, inputs.mask, options, return_weights);
}

}  // namespace s2s::cpu
