// One step of an attention decoder for the rows of a search: from states and tokens to what is kept of the logits.
#pragma once

#include <ATen/ops/empty.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cell.h"
#include "memory.h"

namespace s2s::cpu {

// y = x W^T + b. With few rows the weight is read as it lies in memory, in bfloat16 too; with many it is packed.
template <class T>
class Linear {
 public:
  Linear() = default;
  Linear(const Tensor& weight, const Tensor& bias, bool pack)
      : bias_(bias), outputs_(weight.size(0)), inputs_(weight.size(1)), pack_(pack) {
    if (pack)
      packed_ = Packed<T>::transposed(to_compute(weight));
    else
      weight_ = stored(weight);
  }

  // A weight that is read where it is: float16 is not.
  static Tensor stored(const Tensor& weight) {
    bool bfloat16 = weight.scalar_type() == at::kBFloat16 && kernels<T>().dot_bfloat16;
    return bfloat16 ? weight.contiguous() : to_compute(weight);
  }

  int64_t outputs() const { return outputs_; }

  // The thread's part of the columns.
  std::pair<int64_t, int64_t> part(const Team& team) const {
    int64_t unit = pack_ ? kernels<T>().panel : 16;
    auto [first, last] = team.part((outputs_ + unit - 1) / unit);
    return {first * unit, std::min(outputs_, last * unit)};
  }

  // Columns begin..end of m rows, begin where a part or a block of one begins; c is that of column `begin`.
  void columns(int64_t begin, int64_t end, int64_t m, const T* x, int64_t x_stride, T* c, int64_t c_stride) const {
    const T* bias = bias_.defined() ? data<T>(bias_) + begin : nullptr;
    if (pack_) return packed_.columns(begin, end, m, x, x_stride, c, c_stride, bias, false);
    if (m == 0 || begin >= end) return;
    if (weight_.scalar_type() == at::kBFloat16)
      kernels<T>().dot_bfloat16(m, end - begin, inputs_, x, x_stride,
                                static_cast<const uint16_t*>(weight_.const_data_ptr()) + begin * inputs_, c, c_stride,
                                bias);
    else
      kernels<T>().dot(m, end - begin, inputs_, x, x_stride, data<T>(weight_) + begin * inputs_, c, c_stride, bias);
  }

  void apply(const Team& team, int64_t m, const T* x, int64_t x_stride, T* c, int64_t c_stride) const {
    auto [begin, end] = part(team);
    columns(begin, end, m, x, x_stride, c + begin, c_stride);
  }

  void apply_tanh(const Team& team, int64_t m, const T* x, int64_t x_stride, T* c, int64_t c_stride) const {
    auto [begin, end] = part(team);
    columns(begin, end, m, x, x_stride, c + begin, c_stride);
    for (int64_t i = 0; i < m && begin < end; i++) kernels<T>().tanh_rows(c + i * c_stride + begin, end - begin);
  }

 private:
  Tensor weight_, bias_;
  Packed<T> packed_;
  int64_t outputs_ = 0, inputs_ = 0;
  bool pack_ = false;
};

// Floating-point operations of a step, a row.
inline double step_work(const SearchArguments& in) {
  double n = double(in.weight_ih.numel()) + in.weight_hh.numel() + in.w_query.numel() + in.w_output.numel();
  n += 4.0 * in.heads * in.source * (in.attention + in.width);
  if (in.w_feed.defined()) n += in.w_feed.numel();
  if (in.w_readout.defined()) n += in.w_readout.numel();
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

  // For at most so many rows, of each of which the `kept` best tokens are wanted, by at most so many threads.
  SearchDecoder(const SearchArguments& in, const Positions& positions, int64_t rows, int64_t kept,
                at::IntArrayRef forbidden, int64_t eos, int64_t threads)
      : in_(in),
        cell_(in.gates),
        memory_(in.keys, in.values, in.v, positions),
        kept_(std::min(kept, in.vocab)),
        forbidden_(forbidden.vec()),
        eos_(eos),
        both_stride_(in.hidden + in.context() + in.inputs),
        fed_stride_(in.inputs + in.feed),
        rows_(rows),
        logits_(threads) {
    // Packing reads and writes each weight once, slowly: it pays when many rows share it at every step.
    bool pack = rows >= kRowsWorthPacking;
    hidden_ = Linear<T>(in.weight_hh, in.bias_hh, pack), input_ = Linear<T>(in.weight_ih, in.bias_ih, pack);
    query_ = Linear<T>(in.w_query, in.b_query, pack), output_ = Linear<T>(in.w_output, in.b_output, pack);
    if (in.w_feed.defined()) feed_ = Linear<T>(in.w_feed, in.b_feed, pack);
    if (in.w_readout.defined()) readout_ = Linear<T>(in.w_readout, in.b_readout, pack);
    embedding_ = in.embedding.contiguous();
    auto make = [&](int64_t width) { return std::vector<T>(rows * width); };
    h_ = make(in.hidden), c_ = make(in.c0.defined() ? in.hidden : 0), c_next_ = c_;
    fed_ = make(fed_stride_), both_ = make(both_stride_), feed_next_ = make(feed_.outputs());
    gates_x_ = make(in.gates * in.hidden), gates_h_ = gates_x_;
    queries_ = make(asked()), weights_ = make(in.heads * in.source), features_ = make(readout_.outputs());
    int64_t parts = std::max(kRowsOfATeam * threads, rows);  // see groups_of
    summaries_.resize(parts), values_.resize(parts * kept_), ids_.resize(parts * kept_), eos_logits_.resize(rows);
  }

  // Once in every thread, before all else.
  void prepare(int64_t thread, int64_t count) {
    int64_t rows = rows_.size();
    logits_[thread].resize(std::max(std::min(kRowsOfATeam, rows), rows / count + 1) * kBlock);
  }

  Row& row(int64_t i) { return rows_[i]; }

  // Row i begins with a sentence's initial state.
  void start(int64_t i, int64_t bos) {
    int64_t b = rows_[i].sentence;
    std::copy_n(data<T>(in_.h0) + b * in_.hidden, in_.hidden, h(i));
    if (in_.c0.defined()) std::copy_n(data<T>(in_.c0) + b * in_.hidden, in_.hidden, c_.data() + i * in_.hidden);
    read_token(i, bos);
    if (in_.first_feed.defined()) std::copy_n(data<T>(in_.first_feed) + b * in_.feed, in_.feed, feed(i));
  }

  // What the first step is fed, where it was not given and the step does not make it itself.
  void make_first_feed(const Team& team, int64_t first, int64_t rows) {
    if (in_.attend_first || in_.first_feed.defined() || in_.feed == 0) return;
    auto [begin, end] = team.part(rows);
    for (int64_t i = first + begin; i < first + end; i++) std::copy_n(h(i), in_.hidden, both(i));
    query_.apply(team, rows, h(first), in_.hidden, query(first), asked());
    team.sync();
    attend(team, first, rows, false, false);
    team.sync();
    make_feed(team, first, rows);
    for (int64_t i = first + begin; i < first + end; i++) std::copy_n(next_feed(i), in_.feed, feed(i));
    team.sync();
  }

  // A group's rows, from states and tokens to new states, attention weights and what is kept of the logits.
  void step(const Team& team, int64_t thread, int64_t first, int64_t rows, bool is_first) {
    int64_t hidden = in_.hidden, wide = in_.gates * hidden;
    T *gates_x = gates_x_.data() + first * wide, *gates_h = gates_h_.data() + first * wide;
    hidden_.apply(team, rows, h(first), hidden, gates_h, wide);
    if (in_.attend_first) {
      query_.apply(team, rows, h(first), hidden, query(first), asked());
      team.sync();
      attend(team, first, rows, in_.feed && !(is_first && in_.first_feed.defined()), true);
      team.sync();
    }
    input_.apply(team, rows, fed_.data() + first * fed_stride_, fed_stride_, gates_x, wide);
    team.sync();
    auto [begin, end] = team.part(hidden);
    bool has_cell = in_.c0.defined();
    for (int64_t i = 0; i < rows; i++) {
      int64_t at = (first + i) * hidden;
      cell_.forward(gates_x + i * wide, gates_h + i * wide, h(first + i), has_cell ? c_.data() + at : nullptr,
                    both(first + i), has_cell ? c_next_.data() + at : nullptr, nullptr, hidden, begin, end);
    }
    team.sync();
    if (!in_.attend_first) {
      query_.apply(team, rows, both(first), both_stride_, query(first), asked());
      team.sync();
      attend(team, first, rows, false, true);
      team.sync();
      make_feed(team, first, rows);
    }
    const T* read = in_.reads_feed ? next_feed(first) : both(first);
    int64_t read_stride = in_.reads_feed ? in_.feed : both_stride_;
    if (in_.w_readout.defined()) {
      int64_t width = readout_.outputs();
      readout_.apply_tanh(team, rows, read, read_stride, features_.data() + first * width, width);
      read = features_.data() + first * width, read_stride = width;
      team.sync();
    }
    summarise(team, thread, first, rows, read, read_stride);
  }

  // After step() in all threads, with as many parts a row as its team had threads:
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
    std::copy_n(both(from), in_.hidden, h(to));
    if (in_.c0.defined()) std::copy_n(c_next_.data() + from * in_.hidden, in_.hidden, c_.data() + to * in_.hidden);
    if (!in_.attend_first) std::copy_n(next_feed(from), in_.feed, feed(to));
    read_token(to, token);
  }

 private:
  static constexpr int64_t kRowsWorthPacking = 24;
  static constexpr int64_t kRowsOfATeam = 2 * kRowsOfAGroup;  // a group of fewer rows may have several threads
  static constexpr int64_t kBlock = 128;                      // columns of the logits that are made at a time

  int64_t asked() const { return in_.heads * in_.attention; }
  T* h(int64_t i) { return h_.data() + i * in_.hidden; }
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

  void attend(const Team& team, int64_t first, int64_t rows, bool into_feed, bool want_weights) {
    const auto& kernel = kernels<T>();
    const auto& attention = source_kernels<T>();
    auto [begin, end] = team.part(rows * in_.heads);
    for (int64_t i = begin; i < end; i++) {
      int64_t row = first + i / in_.heads, n = i % in_.heads;
      auto source = memory_.source(rows_[row].sentence, n);
      T* weights = weights_.data() + (row * in_.heads + n) * in_.source;
      T* context = both(row) + in_.hidden + n * in_.width;
      attention.scores(source, query(row) + n * in_.attention, weights);
      kernel.softmax(weights, source.positions, source.count, nullptr);
      make_context(source, weights, context);
      if (into_feed) std::copy_n(context, in_.width, feed(row) + n * in_.width);
    }
    if (!want_weights || !rows_[first].weights) return;
    if (in_.heads > 1) team.sync();  // with one head the thread has made its rows' weights itself
    auto [row_begin, row_end] = team.part(rows);
    for (int64_t row = first + row_begin; row < first + row_end; row++) {
      T* mean = rows_[row].weights;
      std::fill_n(mean, in_.source, T(0));
      for (int64_t n = 0; n < in_.heads; n++) {
        auto source = memory_.source(rows_[row].sentence, n);
        const T* weights = weights_.data() + (row * in_.heads + n) * in_.source;
        for (int64_t i = 0; i < source.count; i++) mean[source.positions[i]] += weights[i] / in_.heads;
      }
    }
  }

  void make_feed(const Team& team, int64_t first, int64_t rows) {
    if (!in_.w_feed.defined()) return;
    feed_.apply_tanh(team, rows, both(first), both_stride_, next_feed(first), in_.feed);
    team.sync();
  }

  // The logits never leave the cache: a block of columns is made, counted and forgotten.
  void summarise(const Team& team, int64_t thread, int64_t first, int64_t rows, const T* x, int64_t x_stride) {
    const auto& kernel = kernels<T>();
    T* block = logits_[thread].data();
    auto part = [&](int64_t row) { return row * team.size + team.index; };
    for (int64_t row = first; row < first + rows; row++)
      summaries_[part(row)] = {-std::numeric_limits<T>::infinity(), T(0), 0};
    auto [begin, end] = output_.part(team);
    for (int64_t column = begin; column < end; column += kBlock) {
      int64_t width = std::min(kBlock, end - column);
      output_.columns(column, column + width, rows, x, x_stride, block, kBlock);
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

  const SearchArguments& in_;
  CellKernels<T> cell_;
  Memory<T> memory_;
  int64_t kept_;
  std::vector<int64_t> forbidden_;
  int64_t eos_, both_stride_, fed_stride_;
  std::vector<Row> rows_;
  Linear<T> hidden_, input_, query_, feed_, readout_, output_;
  Tensor embedding_;
  // By row: h, c; [x ; feed], what the cell reads; [h' ; context ; x], of which readout and feed read the beginning.
  std::vector<T> h_, c_, c_next_, fed_, both_, feed_next_, gates_x_, gates_h_, queries_, weights_, features_;
  std::vector<LogitsSummary<T>> summaries_;
  std::vector<T> values_, eos_logits_;
  std::vector<int64_t> ids_;
  std::vector<std::vector<T>> logits_;  // by thread
};

}  // namespace s2s::cpu
