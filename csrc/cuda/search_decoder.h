// One step of an attention decoder for the rows of a search: from states and tokens to logits, in memory of its own.
#pragma once

#include <ATen/ops/cat.h>

#include "additive_attention_splits.h"
#include "beam_search.cuh"
#include "cell.cuh"
#include "feed.cuh"
#include "glue.h"

namespace s2s::cuda {

// y = x W^T + b, into memory that is there.
struct Linear {
  Tensor weight, bias;  // the weight transposed

  Linear() = default;
  Linear(const Tensor& weight_, const Tensor& bias_) : weight(weight_.contiguous().t()), bias(bias_) {}
  int64_t outputs() const { return weight.size(1); }
  void operator()(const Tensor& x, const Tensor& out) const { product_out(out, x, weight, bias); }
};

// `row` (R, H + N*D + E) is where a step leaves [h ; context ; x]: all that reads them reads columns of it. The cell
// reads `inputs` (R, F + E), [feed ; x]: with attention before the cell those columns of the row itself, else memory
// in which the feed is of the step before.
class SearchDecoder {
 public:
  SearchDecoder(const SearchArguments& in, int64_t copies, const OptionalTensor& lengths, const OptionalTensor& mask,
                int64_t bos)
      : in_(in),
        copies_(copies),
        rows_(in.batch * copies),
        type_(type_of(in.h0)),
        fed_(!in.attend_first && in.feed > 0),
        lengths_(to_int64(lengths)),
        mask_(cuda::contiguous(mask)),
        embedding_(in.embedding.contiguous()) {
    int64_t wide = in.gates * in.hidden, asked = in.heads * in.attention, columns_ = in.hidden + in.context();
    bool rounded = in.h0.scalar_type() != accumulate_type(in.h0.scalar_type());
    // With attention before the cell both read the same h.
    if (in.attend_first)
      of_state_ = {at::cat({in.weight_hh, in.w_query}),
                   merged_biases({{in.bias_hh, wide}, {in.b_query, asked}}, in.h0)};
    else
      of_state_ = {in.weight_hh, in.bias_hh}, query_ = {in.w_query, in.b_query};
    input_ = {at::cat({in.weight_ih.narrow(1, in.inputs, in.feed), in.weight_ih.narrow(1, 0, in.inputs)}, 1),
              in.bias_ih};
    if (in.w_feed.defined()) feed_ = {in.w_feed, in.b_feed}, attentional_ = empty(in.feed);
    if (in.w_readout.defined()) readout_ = {in.w_readout, in.b_readout}, readout_out_ = empty(in.w_readout.size(0));
    output_ = {in.w_output, in.b_output};

    row_ = empty(columns_ + in.inputs);
    row_h_ = columns(row_, 0, in.hidden), row_context_ = columns(row_, in.hidden, columns_);
    row_h_and_context_ = columns(row_, 0, columns_), row_x_ = columns(row_, columns_, columns_ + in.inputs);
    inputs_ = in.attend_first ? columns(row_, columns_ - in.feed, columns_ + in.inputs) : empty(in.feed + in.inputs);
    h_ = to_accumulate(spread(in.h0)), next_h_ = at::empty_like(h_);
    if (in.c0.defined()) c_ = to_accumulate(spread(in.c0)), next_c_ = at::empty_like(c_);
    rounded_h_ = rounded ? spread(in.h0) : h_;
    of_state_out_ = empty(of_state_.outputs()), gates_x_ = empty(wide), logits_ = empty(in.vocab);
    queries_ = in.attend_first ? columns(of_state_out_, wide, wide + asked) : empty(asked);
    weights_ = at::empty({in.batch, copies, in.heads, in.source}, h_.options());
    AttentionForward attention{sizes()};
    splits_ = split_forward(attention, h_);
    features_ = in.reads_feed ? attentional_ : columns(row_, 0, in.readout_from);

    row_x_.copy_(embedding_.select(0, bos));
    if (!in.attend_first) inputs_.narrow(1, in.feed, in.inputs).copy_(row_x_);
    if (fed_ && in.first_feed.defined()) {
      inputs_.narrow(1, 0, in.feed).copy_(spread(in.first_feed));
    } else if (fed_) {
      row_h_.copy_(rounded_h_);
      query_(row_h_, queries_);
      attend();
      inputs_.narrow(1, 0, in.feed).copy_(fed());
    } else if (in.feed > 0 && in.first_feed.defined()) {
      first_inputs_ = at::cat({spread(in.first_feed), row_x_}, 1);
    }
  }

  const Tensor& logits() const { return logits_; }
  const Tensor& weights() const { return weights_; }  // (B, K, N, S), unrounded
  const int64_t* lengths() const { return int64_data(lengths_); }
  const bool* mask() const { return bool_data(mask_); }

  // Reads and writes the same addresses in every step but for the first.
  void step(bool first) const {
    of_state_(rounded_h_, of_state_out_);
    if (in_.attend_first) attend();
    input_(first && first_inputs_.defined() ? first_inputs_ : inputs_, gates_x_);
    CellForward cell{rows_, in_.hidden, 1};
    cell.gates_x = data(gates_x_), cell.gates_x_strides = {gates_x_.stride(0), 0};
    cell.gates_h = data(of_state_out_), cell.gates_h_strides = {of_state_out_.stride(0), 0};
    cell.h = data(h_), cell.c = data(c_), cell.next_h = data(next_h_), cell.next_c = data(next_c_);
    cell.output = data(row_h_), cell.output_strides = {row_.stride(0), 0};
    cell_forward(in_.gates, cell, type_, stream());
    if (!in_.attend_first) {
      query_(row_h_, queries_);
      attend();
    }
    if (readout_out_.defined()) {
      readout_(features_, readout_out_);
      tanh(readout_out_);
    }
    output_(readout_out_.defined() ? readout_out_ : features_, logits_);
  }

  // Where a row's next step begins.
  SearchAdvance advance() const {
    SearchAdvance a{in_.hidden, in_.inputs, in_.feed};
    a.next_h = data(next_h_), a.next_c = data(next_c_), a.h = data(h_), a.c = data(c_);
    a.rounded_h = rounded_h_.is_same(h_) ? nullptr : data(rounded_h_);
    a.embedding = data(embedding_), a.x = data(row_x_), a.x_stride = row_.stride(0);
    if (in_.attend_first) return a;
    Tensor x = inputs_.narrow(1, in_.feed, in_.inputs);
    a.more_x = data(x), a.more_x_stride = inputs_.stride(0);
    if (!fed_) return a;
    a.fed = data(fed()), a.fed_stride = fed().stride(0);
    a.next_fed = data(inputs_), a.next_fed_stride = inputs_.stride(0);
    return a;
  }

 private:
  Tensor empty(int64_t width) const { return at::empty({rows_, width}, in_.h0.options()); }
  cudaStream_t stream() const { return current_stream(in_.h0); }  // another one while a step is captured
  AttentionSizes sizes() const { return {in_.batch, copies_, in_.heads, in_.source, in_.attention, in_.width}; }
  Strides by_sentence(const Tensor& x) const { return {copies_ * x.stride(0), x.stride(0)}; }
  const Tensor& fed() const { return attentional_.defined() ? attentional_ : row_context_; }

  // A copy of each row of x (B, X) for every prefix of its sentence.
  Tensor spread(const Tensor& x) const {
    return x.unsqueeze(1).expand({in_.batch, copies_, x.size(1)}).clone(at::MemoryFormat::Contiguous).flatten(0, 1);
  }

  void tanh(const Tensor& x) const {
    FeedForward a{rows_, x.size(1)};
    a.c_part = a.feed = data(x), a.c_part_stride = a.feed_stride = x.stride(0);
    feed_forward(a, type_, stream());
  }

  // The context of the queries, and with w_feed what is fed.
  void attend() const {
    AttentionForward a{sizes()};
    a.query = data(queries_), a.query_strides = by_sentence(queries_);
    a.keys = data(in_.keys), a.values = data(in_.values), a.v = data(in_.v);
    a.lengths = lengths(), a.mask = mask();
    a.context = data(row_context_), a.context_strides = by_sentence(row_);
    a.exact_weights = data(weights_), a.weights_strides = {copies_ * weights_.stride(1), weights_.stride(1)};
    a.parts = data(splits_.parts), a.arrived = static_cast<unsigned*>(data(splits_.arrived));
    attention_forward(a, type_, stream());
    if (!attentional_.defined()) return;
    feed_(row_h_and_context_, attentional_);
    tanh(attentional_);
  }

  const SearchArguments& in_;
  int64_t copies_, rows_;
  Type type_;
  bool fed_;  // of the step before
  Tensor lengths_, mask_, embedding_;
  Linear of_state_, query_, input_, feed_, readout_, output_;
  Tensor row_, row_h_, row_context_, row_h_and_context_, row_x_;  // the others are columns of the first
  Tensor inputs_, first_inputs_, h_, c_, next_h_, next_c_, rounded_h_;
  Splits splits_;
  Tensor of_state_out_, queries_, gates_x_, weights_, attentional_, readout_out_, features_, logits_;
};

}  // namespace s2s::cuda
