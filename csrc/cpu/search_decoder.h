// One step of an attention decoder for the rows of a search: from states and tokens to what is kept of the logits.
#pragma once

#include <ATen/ops/empty.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cell.h"
#include "linear.h"
#include "search_attention.h"

namespace s2s::cpu {

// Floating-point operations of a step, a row.
inline double step_work(const SearchArguments& in, const decoder::Inputs* parts) {
  double n = 4.0 * in.heads * in.source * (in.attention + in.width);
  for (const Tensor* x : {&in.weight_ih, &in.weight_hh, &in.w_query, &in.w_output, &in.w_feed, &in.w_readout})
    if (x->defined()) n += x->numel();
  if (parts) n += 2.0 * (parts->depth() - 1) * in.weight_hh.numel();  // a transition too, nearly
  return 2 * n;
}

// What a part of a row's logits comes down to; the tokens that were kept are apart.
template <class T>
struct LogitsSummary {
  T maximum, sum;  // of the logits; of exp(logit - maximum)
  int64_t kept;
};

template <class T>
class SearchDecoder {
 public:
  // Whose row it is, which of that sentence's prefixes, and where its attention weights (S) go; null: nowhere.
  struct Row {
    int64_t sentence, prefix;
    T* weights;
  };

  // For at most so many rows, of each of which the `kept` best tokens are wanted, by at most so many threads. parts:
  // what the decoder has beyond a plain one, or null; int8: its weights in 8 bits, or null.
  SearchDecoder(const SearchArguments& in, const decoder::Inputs* parts, const Int8Weights* int8,
                const Positions& positions, int64_t rows, int64_t kept, at::IntArrayRef forbidden, int64_t eos,
                int64_t threads)
      : in_(in),
        parts_(parts),
        cell_(in.gates),
        depth_(parts ? parts->levels() : 1),
        kept_(std::min(kept, in.vocab)),
        forbidden_(forbidden.vec()),
        eos_(eos),
        both_stride_(in.hidden + in.context() + in.inputs),
        fed_stride_(in.inputs + in.feed),
        rows_(rows),
        logits_(threads) {
    // Packing reads and writes each weight once, slowly: it pays when many rows share it at every step.
    bool pack = rows >= kRowsWorthPacking;
    Int8Weights narrow = int8 ? *int8 : Int8Weights();
    narrow.cells.resize(parts ? parts->depth() : 1);
    auto add_cell = [&](size_t l, const auto& cell) {
      input_.emplace_back(cell.weight_ih, cell.bias_ih, pack, narrow.cells[l].first);
      hidden_.emplace_back(cell.weight_hh, cell.bias_hh, pack, narrow.cells[l].second);
    };
    add_cell(0, in);
    for (int64_t l = 1; parts && l < parts->depth(); l++) add_cell(l, parts->layers[l]);
    if (parts)
      attention_.emplace(*parts, positions, rows, threads);
    else
      memory_.emplace(in.keys, in.values, in.v, positions);
    output_ = Linear<T>(in.w_output, in.b_output, pack, narrow.w_output);
    if (in.w_query.defined()) query_ = Linear<T>(in.w_query, in.b_query, pack, narrow.w_query);
    if (in.w_feed.defined()) feed_ = Linear<T>(in.w_feed, in.b_feed, pack, narrow.w_feed);
    if (in.w_readout.defined()) readout_ = Linear<T>(in.w_readout, in.b_readout, pack, narrow.w_readout);
    embedding_ = in.embedding.contiguous();
    auto make = [&](int64_t width) { return Buffer<T>(rows * width); };
    h_ = make(depth_ * in.hidden), c_ = make(in.c0.defined() ? depth_ * in.hidden : 0), c_next_ = c_;
    lower_ = make((transition() ? 1 : depth_ - 1) * in.hidden), asking_ = make(asks_c() ? 2 * in.hidden : 0);
    fed_ = make(fed_stride_), both_ = make(both_stride_), feed_next_ = make(feed_.outputs());
    gates_x_ = make(in.gates * in.hidden), gates_h_ = make(depth_ * in.gates * in.hidden);
    queries_ = make(asked()), weights_ = make(in.heads * in.source), features_ = make(readout_.outputs());
    int64_t shares = std::max(kRowsOfATeam * threads, rows);  // see groups_of
    summaries_.resize(shares), values_.resize(shares * kept_), ids_.resize(shares * kept_), eos_logits_.resize(rows);
  }

  // Once in every thread, before all else.
  void prepare(int64_t thread) {
    int64_t rows = rows_.size(), count = logits_.size();
    logits_[thread].resize(std::max(std::min(kRowsOfATeam, rows), rows / count + 1) * kBlock);
  }

  Row& row(int64_t i) { return rows_[i]; }

  // Row i begins with a sentence's initial state.
  void start(int64_t i, int64_t bos) {
    int64_t b = rows_[i].sentence;
    for (int64_t l = 0; l < depth_; l++) {
      int64_t at = (l * in_.batch + b) * in_.hidden;
      std::copy_n(data<T>(in_.h0) + at, in_.hidden, h(l, i));
      if (in_.c0.defined()) std::copy_n(data<T>(in_.c0) + at, in_.hidden, c_.data() + state(l, i));
    }
    if (attention_) attention_->start(i, b);
    read_token(i, bos);
    if (in_.first_feed.defined()) std::copy_n(data<T>(in_.first_feed) + b * in_.feed, in_.feed, feed(i));
  }

  // What the first step is fed, where it was not given and the step does not make it itself.
  void make_first_feed(const Team& team, int64_t thread, int64_t first, int64_t rows) {
    if (in_.attend_first || in_.first_feed.defined() || in_.feed == 0) return;
    auto [begin, end] = team.part(rows);
    for (int64_t i = first + begin; i < first + end; i++) std::copy_n(h(i), in_.hidden, both(i));
    ask(team, first, rows, false);
    attend(team, thread, first, rows, false, false, true);
    team.sync();
    make_feed(team, first, rows);
    for (int64_t i = first + begin; i < first + end; i++) {
      std::copy_n(next_feed(i), in_.feed, feed(i));
      if (attention_) attention_->advance(i, i);
    }
    team.sync();
  }

  // A group's rows, from states and tokens to new states, attention weights and what is kept of the logits, in `parts`
  // parts, no fewer than its team has threads.
  void step(const Team& team, int64_t thread, int64_t parts, int64_t first, int64_t rows, bool is_first) {
    int64_t hidden = in_.hidden, wide = in_.gates * hidden;
    T* gates_x = gates_x_.data() + first * wide;
    auto gates_h = [&](int64_t l) { return gates_h_.data() + (l * rows_.size() + first) * wide; };
    for (int64_t l = 0; l < depth_; l++) hidden_[l].apply(team, rows, h(l, first), hidden, gates_h(l), wide);
    if (transition()) {
      move(team, thread, first, rows);
      return read_out(team, thread, parts, first, rows);
    }
    if (in_.attend_first) {
      bool fed = in_.feed && !(is_first && in_.first_feed.defined());
      auto [begin, end] = team.part(rows);
      if (in_.w_feed.defined())  // which reads [h ; context]
        for (int64_t i = first + begin; i < first + end; i++) std::copy_n(h(i), hidden, both(i));
      ask(team, first, rows, false);
      attend(team, thread, first, rows, fed && !in_.w_feed.defined(), true, fed || in_.feed == 0);
      team.sync();
      if (fed && in_.w_feed.defined()) {
        make_feed(team, first, rows);
        for (int64_t i = first + begin; i < first + end; i++) std::copy_n(next_feed(i), in_.feed, feed(i));
        team.sync();
      }
    }
    auto [begin, end] = team.part(hidden);
    bool has_cell = in_.c0.defined();
    for (int64_t l = 0; l < depth_; l++) {
      auto [read, read_stride] = l ? after(l - 1, first) : std::pair(fed_.data() + first * fed_stride_, fed_stride_);
      input_[l].apply(team, rows, read, read_stride, gates_x, wide);
      team.sync();
      auto [made, made_stride] = after(l, first);
      for (int64_t i = 0; i < rows; i++) {
        int64_t at = state(l, first + i);
        cell_.forward(gates_x + i * wide, gates_h(l) + i * wide, h_.data() + at, has_cell ? c_.data() + at : nullptr,
                      made + i * made_stride, has_cell ? c_next_.data() + at : nullptr, nullptr, hidden, begin, end);
      }
      team.sync();
    }
    if (!in_.attend_first) {
      ask(team, first, rows, true);
      attend(team, thread, first, rows, false, true, true);
      team.sync();
      make_feed(team, first, rows);
    }
    read_out(team, thread, parts, first, rows);
  }

  // From the states to what is kept of the logits.
  void read_out(const Team& team, int64_t thread, int64_t parts, int64_t first, int64_t rows) {
    const T* read = in_.reads_feed ? next_feed(first) : both(first);
    int64_t read_stride = in_.reads_feed ? in_.feed : both_stride_;
    if (in_.w_readout.defined()) {
      int64_t width = readout_.outputs();
      readout_.apply_tanh(team, rows, read, read_stride, features_.data() + first * width, width);
      read = features_.data() + first * width, read_stride = width;
      team.sync();
    }
    summarise(team, thread, parts, first, rows, read, read_stride);
  }

  // After step() in all threads, with as many parts a row:
  // the largest of a row's logits and log(sum(exp(logit - largest))): a log probability is the difference of the two
  // from its logit, one after the other, or a token that is nearly certain would lose its digits;
  std::pair<T, T> log_sum(int64_t row, int64_t parts) const {
    const LogitsSummary<T>* part = &summaries_[row * parts];
    T maximum = part[0].maximum, sum = 0;
    for (int64_t p = 1; p < parts; p++) maximum = std::max(maximum, part[p].maximum);
    for (int64_t p = 0; p < parts; p++)
      if (part[p].sum != 0) sum += part[p].sum * std::exp(part[p].maximum - maximum);
    return {maximum, std::log(sum)};
  }

  T eos_logit(int64_t row) const { return eos_logits_[row]; }

  // and f(token, logit) for its best tokens (of all parts), of equals the lower id first.
  template <class F>
  void each_token(int64_t row, int64_t parts, const F& f) const {
    for (int64_t at = row * parts; at < (row + 1) * parts; at++)
      for (int64_t i = at * kept_; i < at * kept_ + summaries_[at].kept; i++) f(ids_[i], values_[i]);
  }

  // Row `to` goes on from what step() made of row `from`, with a token.
  void advance(int64_t to, int64_t from, int64_t token) {
    for (int64_t l = 0; l < depth_; l++) {
      std::copy_n(after(l, from).first, in_.hidden, h(l, to));
      if (in_.c0.defined()) std::copy_n(c_next_.data() + state(l, from), in_.hidden, c_.data() + state(l, to));
    }
    if (attention_) attention_->advance(to, from);
    if (!in_.attend_first) std::copy_n(next_feed(from), in_.feed, feed(to));
    read_token(to, token);
  }

 private:
  // The two cells of a transition, with the attention between them; the first one's gates of h are there.
  void move(const Team& team, int64_t thread, int64_t first, int64_t rows) {
    int64_t hidden = in_.hidden, wide = in_.gates * hidden;
    auto [begin, end] = team.part(hidden);
    T *gates_x = gates_x_.data() + first * wide, *gates_h = gates_h_.data() + first * wide;
    bool has_cell = in_.c0.defined();
    auto run_cell = [&, begin = begin, end = end](const T* before, int64_t stride) {
      team.sync();
      for (int64_t i = 0; i < rows; i++) {
        int64_t at = state(0, first + i);
        cell_.forward(gates_x + i * wide, gates_h + i * wide, before + i * stride, has_cell ? c_.data() + at : nullptr,
                      both(first + i), has_cell ? c_next_.data() + at : nullptr, nullptr, hidden, begin, end);
      }
      team.sync();
    };
    input_[0].apply(team, rows, fed_.data() + first * fed_stride_, fed_stride_, gates_x, wide);
    run_cell(h(first), hidden);
    ask(team, first, rows, true);
    attend(team, thread, first, rows, false, true, true);
    team.sync();
    make_feed(team, first, rows);
    auto [row_begin, row_end] = team.part(rows);
    for (int64_t i = first + row_begin; i < first + row_end; i++) {  // what the second cell goes on from
      std::copy_n(both(i), hidden, lower_.data() + state(0, i));
      if (has_cell) std::copy_n(c_next_.data() + state(0, i), hidden, c_.data() + state(0, i));
    }
    hidden_[1].apply(team, rows, both(first), both_stride_, gates_h, wide);
    input_[1].apply(team, rows, next_feed(first), in_.w_feed.defined() ? in_.feed : both_stride_, gates_x, wide);
    run_cell(lower_.data() + state(0, first), hidden);
  }

  bool transition() const { return parts_ && parts_->transition; }

  static constexpr int64_t kRowsWorthPacking = 24;
  static constexpr int64_t kRowsOfATeam = 2 * kRowsOfAGroup;  // a group of fewer rows may have several threads
  static constexpr int64_t kBlock = 128;                      // columns of the logits that are made at a time

  int64_t asked() const { return in_.heads * in_.attention; }
  bool asks_c() const { return parts_ && parts_->query == decoder::Query::kCH; }
  // Where the state of layer l is; without l that of the top layer.
  int64_t state(int64_t l, int64_t i) const { return (l * rows_.size() + i) * in_.hidden; }
  T* h(int64_t l, int64_t i) { return h_.data() + state(l, i); }
  T* h(int64_t i) { return h(depth_ - 1, i); }
  // What a step made of h, and how far the next row is.
  std::pair<T*, int64_t> after(int64_t l, int64_t i) {
    if (l == depth_ - 1) return {both(i), both_stride_};
    return {lower_.data() + state(l, i), in_.hidden};
  }
  T* both(int64_t i) { return both_.data() + i * both_stride_; }
  T* query(int64_t i) { return queries_.data() + i * asked(); }
  T* feed(int64_t i) { return fed_.data() + i * fed_stride_ + in_.inputs; }
  T* next_feed(int64_t i) { return in_.w_feed.defined() ? feed_next_.data() + i * in_.feed : both(i) + in_.hidden; }

  void read_token(int64_t i, int64_t token) {
    T *x = fed_.data() + i * fed_stride_, *copy = both(i) + in_.hidden + in_.context();
    auto read = [&](auto zero) {
      auto* from = embedding_.const_data_ptr<decltype(zero)>() + token * in_.inputs;
      for (int64_t j = 0; j < in_.inputs; j++) x[j] = copy[j] = static_cast<T>(from[j]);
    };
    switch (embedding_.scalar_type()) {
      case at::kBFloat16:
        return read(at::BFloat16());
      case at::kHalf:
        return read(at::Half());
      default:
        return read(T());
    }
  }

  // The queries of what a step has made of the states, or of the states before it.
  void ask(const Team& team, int64_t first, int64_t rows, bool made) {
    auto [begin, end] = team.part(rows);
    int64_t hidden = in_.hidden;
    auto [read, stride] = made ? after(depth_ - 1, first) : std::pair(h(first), hidden);
    if (asks_c()) {
      for (int64_t i = begin; i < end; i++) {
        T* to = asking_.data() + (first + i) * 2 * hidden;
        std::copy_n((made ? c_next_ : c_).data() + state(depth_ - 1, first + i), hidden, to);
        std::copy_n(read + i * stride, hidden, to + hidden);
      }
      read = asking_.data() + first * 2 * hidden, stride = 2 * hidden;
      team.sync();
    }
    if (in_.w_query.defined())
      query_.apply(team, rows, read, stride, query(first), asked());
    else
      for (int64_t i = begin; i < end; i++) std::copy_n(read + i * stride, asked(), query(first + i));
    team.sync();
  }

  // counted: whether later steps know of these weights.
  void attend(const Team& team, int64_t thread, int64_t first, int64_t rows, bool into_feed, bool want_weights,
              bool counted) {
    const auto& kernel = kernels<T>();
    auto [begin, end] = team.part(rows * in_.heads);
    for (int64_t i = begin; i < end; i++) {
      int64_t row = first + i / in_.heads, n = i % in_.heads;
      T* weights = weights_.data() + (row * in_.heads + n) * in_.source;
      T* context = both(row) + in_.hidden + n * in_.width;
      const T* asked = query(row) + n * in_.attention;
      if (attention_) {
        attention_->forward(thread, row, rows_[row].sentence, n, asked, weights, context, counted);
      } else {
        auto source = memory_->source(rows_[row].sentence, n);
        source_kernels<T>().scores(source, asked, weights);
        kernel.softmax(weights, source.positions, source.count, nullptr);
        make_context(source, weights, context);
        if (rows_[row].weights) kernel.scatter(weights, source.positions, source.count, in_.source);
      }
      if (into_feed) std::copy_n(context, in_.width, feed(row) + n * in_.width);
    }
    if (!want_weights || !rows_[first].weights) return;
    if (in_.heads > 1) team.sync();  // with one head the thread has made its rows' weights itself
    auto [row_begin, row_end] = team.part(rows);
    for (int64_t row = first + row_begin; row < first + row_end; row++) {
      T* mean = rows_[row].weights;
      std::fill_n(mean, in_.source, T(0));
      for (int64_t n = 0; n < in_.heads; n++) {
        const T* weights = weights_.data() + (row * in_.heads + n) * in_.source;
        for (int64_t s = 0; s < in_.source; s++) mean[s] += weights[s] / in_.heads;
      }
    }
  }

  void make_feed(const Team& team, int64_t first, int64_t rows) {
    if (!in_.w_feed.defined()) return;
    auto form = parts_ ? parts_->feed_form : decoder::Feed::kTanh;
    if (form == decoder::Feed::kTanh)
      feed_.apply_tanh(team, rows, both(first), both_stride_, next_feed(first), in_.feed);
    else
      feed_.apply(team, rows, both(first), both_stride_, next_feed(first), in_.feed);
    if (form == decoder::Feed::kGate) {
      auto [begin, end] = feed_.part(team);
      for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = begin; j < end; j++)
          next_feed(i)[j] = math::sigmoid(next_feed(i)[j]) * both(i)[in_.hidden + j];
    }
    team.sync();
  }

  // The logits never leave the cache: a block of columns is made, counted and forgotten.
  void summarise(const Team& team, int64_t thread, int64_t parts, int64_t first, int64_t rows, const T* x,
                 int64_t x_stride) {
    const auto& kernel = kernels<T>();
    T* block = logits_[thread].data();
    auto features = output_.read(rows, x, x_stride);
    auto [first_part, last_part] = split(parts, team.size, team.index);
    for (int64_t p = first_part; p < last_part; p++) {
      auto part = [&](int64_t row) { return row * parts + p; };
      for (int64_t row = first; row < first + rows; row++)
        summaries_[part(row)] = {-std::numeric_limits<T>::infinity(), T(0), 0};
      auto [begin, end] = output_.part({p, parts, nullptr});
      for (int64_t column = begin; column < end; column += kBlock) {
        int64_t width = std::min(kBlock, end - column);
        output_.columns(column, column + width, features, block, kBlock);
        for (int64_t i = 0; i < rows; i++) {
          T* logits = block + i * kBlock;
          auto& summary = summaries_[part(first + i)];
          kernel.add_exponentials(logits, width, &summary.maximum, &summary.sum);
          if (column <= eos_ && eos_ < column + width) eos_logits_[first + i] = logits[eos_ - column];
          for (int64_t token : forbidden_)
            if (column <= token && token < column + width) logits[token - column] = -std::numeric_limits<T>::infinity();
          kernel.keep_largest(logits, width, column, values_.data() + part(first + i) * kept_,
                              ids_.data() + part(first + i) * kept_, &summary.kept, kept_);
        }
      }
    }
  }

  const SearchArguments& in_;
  const decoder::Inputs* parts_;
  CellKernels<T> cell_;
  std::optional<Memory<T>> memory_;
  std::optional<SearchAttention<T>> attention_;  // of a decoder with parts
  int64_t depth_, kept_;
  std::vector<int64_t> forbidden_;
  int64_t eos_, both_stride_, fed_stride_;
  std::vector<Row> rows_;
  std::vector<Linear<T>> hidden_, input_;  // by layer
  Linear<T> query_, feed_, readout_, output_;
  Tensor embedding_;
  // By layer and row: h, c; what a step makes of h below the top layer. By row: [c ; h] of the top layer, where both
  // ask; [x ; feed], what the cell reads; [h' ; context ; x], of which readout and feed read the beginning.
  Buffer<T> h_, c_, c_next_, lower_, asking_, fed_, both_, feed_next_, gates_x_, gates_h_, queries_, weights_,
      features_;
  std::vector<LogitsSummary<T>> summaries_;
  Buffer<T> values_, eos_logits_;
  std::vector<int64_t> ids_;
  std::vector<Buffer<T>> logits_;  // by thread
};

}  // namespace s2s::cpu
