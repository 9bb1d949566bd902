#include "arguments.h"

#include "checks.h"

namespace s2s {

namespace {

Tensor optional(const OptionalTensor& x, Prepare prepare) { return given(x) ? prepare(*x) : Tensor(); }

// The tensors of a list, one after the other.
struct Reader {
  const OptionalTensors& list;
  size_t i = 0;

  Reader(const OptionalTensors& list_, size_t size) : list(list_) {
    TORCH_CHECK_VALUE(list.size() == size, "inputs has ", list.size(), " tensors, expected ", size);
  }
  OptionalTensor next() { return list.get(i++); }
  Tensor required() { return next().value(); }
  Cell cell() {
    Tensor weight_ih = required(), weight_hh = required();
    OptionalTensor bias_ih = next(), bias_hh = next();
    return {weight_ih, weight_hh, bias_ih, bias_hh};
  }
};

}  // namespace

AttentionArguments::AttentionArguments(const Tensor& query_, const Tensor& keys_, const Tensor& values_,
                                       const Tensor& v_, const OptionalTensor& lengths, const OptionalTensor& mask,
                                       const OptionalTensor& bias_, Prepare prepare) {
  check_dim("v", v_, 1, 2);
  int64_t per_head = v_.dim();
  check_dim("query", query_, 1 + per_head, 2 + per_head);
  check_dim("keys", keys_, 2 + per_head, 2 + per_head);
  check_dim("values", values_, 3, 3);
  bool many = query_.dim() == 2 + per_head;
  batch = query_.size(0), queries = many ? query_.size(1) : 1;
  heads = per_head == 2 ? v_.size(0) : 1, attention = v_.size(-1);
  source = keys_.size(1), width = values_.size(2);
  lead = {batch};
  if (many) lead.push_back(queries);
  if (per_head == 2) lead.push_back(heads);
  std::vector<int64_t> keys_shape = {batch, source};
  if (per_head == 2) keys_shape.push_back(heads);
  keys_shape.push_back(attention);
  check_like("query", query_, shape(attention), query_);
  check_like("keys", keys_, keys_shape, query_);
  check_like("values", values_, {batch, source, width}, query_);
  check_like("v", v_, v_.sizes(), query_);
  check_lengths(lengths, batch, source, query_);
  check_mask(mask, batch, source, query_);
  bias_stride = 0;
  if (given(bias_) && bias_->dim() == 3 && many) {
    check_like("bias", *bias_, {batch, queries, source}, query_);
    bias_stride = source;
  } else {
    check_optional("bias", bias_, {batch, source}, query_);
  }
  query = prepare(query_).view({batch, queries, heads, attention});
  keys = prepare(keys_).view({batch, source, heads, attention});
  values = prepare(values_);
  v = prepare(v_).view({heads, attention});
  bias = optional(bias_, prepare);
}

std::vector<int64_t> AttentionArguments::shape(int64_t last) const {
  auto all = lead;
  all.push_back(last);
  return all;
}

RecurrenceArguments::RecurrenceArguments(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths,
                                         Prepare prepare) {
  Reader read(list, gates == kGru ? 6 : 7);
  Tensor x_ = read.required(), h0_ = read.required();
  OptionalTensor c0_ = gates == kLstm ? read.next() : std::nullopt;
  Cell cell = read.cell();
  check_cell(gates, x_, h0_, c0_, cell, 0);
  check_lengths(lengths, x_.size(0), x_.size(1), x_);
  type = x_.scalar_type();
  batch = x_.size(0), steps = x_.size(1), hidden = h0_.size(1);
  x = prepare(x_), h0 = prepare(h0_), c0 = optional(c0_, prepare);
  weight_ih = prepare(cell.weight_ih), weight_hh = prepare(cell.weight_hh);
  bias_ih = optional(cell.bias_ih, prepare), bias_hh = optional(cell.bias_hh, prepare);
}

AttentionRecurrenceArguments::AttentionRecurrenceArguments(int64_t gates, const OptionalTensors& list,
                                                           const OptionalTensor& lengths, const OptionalTensor& mask,
                                                           Prepare prepare) {
  Reader read(list, gates == kGru ? 14 : 15);
  Tensor x_ = read.required(), h0_ = read.required();
  OptionalTensor c0_ = gates == kLstm ? read.next() : std::nullopt;
  Tensor keys_ = read.required(), values_ = read.required(), v_ = read.required(), w_query_ = read.required();
  OptionalTensor b_query_ = read.next();
  Cell cell = read.cell();
  OptionalTensor w_feed_ = read.next(), b_feed_ = read.next(), first_feed_ = read.next();

  check_dim("x", x_, 3, 3);
  check_dim("h0", h0_, 2, 2);
  check_dim("v", v_, 1, 2);
  check_dim("keys", keys_, 2 + v_.dim(), 2 + v_.dim());
  check_dim("values", values_, 3, 3);
  type = x_.scalar_type();
  v_shape = v_.sizes().vec();
  batch = x_.size(0), steps = x_.size(1), inputs = x_.size(2), hidden = h0_.size(1), source = keys_.size(1);
  heads = v_.dim() == 2 ? v_.size(0) : 1, attention = v_.size(-1), width = values_.size(2);
  if (given(w_feed_)) check_dim("w_feed", *w_feed_, 2, 2);
  feed = given(w_feed_) ? w_feed_->size(0) : context();
  check_cell(gates, x_, h0_, c0_, cell, feed);
  std::vector<int64_t> keys_shape = {batch, source};
  keys_shape.insert(keys_shape.end(), v_shape.begin(), v_shape.end());
  check_like("keys", keys_, keys_shape, x_);
  check_like("values", values_, {batch, source, width}, x_);
  check_like("v", v_, v_shape, x_);
  check_like("w_query", w_query_, {heads * attention, hidden}, x_);
  check_optional("b_query", b_query_, {heads * attention}, x_);
  check_optional("w_feed", w_feed_, {feed, hidden + context()}, x_);
  check_optional("b_feed", b_feed_, {feed}, x_);
  check_optional("first_feed", first_feed_, {batch, feed}, x_);
  check_lengths(lengths, batch, source, x_);
  check_mask(mask, batch, source, x_);

  x = prepare(x_), h0 = prepare(h0_), c0 = optional(c0_, prepare);
  keys = prepare(keys_).view({batch, source, heads, attention}), values = prepare(values_);
  v = prepare(v_).view({heads, attention});
  w_query = prepare(w_query_), b_query = optional(b_query_, prepare);
  weight_ih = prepare(cell.weight_ih), weight_hh = prepare(cell.weight_hh);
  bias_ih = optional(cell.bias_ih, prepare), bias_hh = optional(cell.bias_hh, prepare);
  w_feed = optional(w_feed_, prepare), b_feed = optional(b_feed_, prepare);
  first_feed = optional(first_feed_, prepare);
}

std::vector<int64_t> AttentionRecurrenceArguments::weights_shape() const {
  std::vector<int64_t> shape = {batch, steps + 1};
  if (v_shape.size() == 2) shape.push_back(heads);
  shape.push_back(source);
  return shape;
}

}  // namespace s2s
