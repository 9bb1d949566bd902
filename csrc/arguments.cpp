#include "arguments.h"

#include <cmath>

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
  Tensor required() {
    OptionalTensor x = next();
    TORCH_CHECK_VALUE(given(x), "inputs[", i - 1, "] is None, expected a tensor");
    return *x;
  }
  Cell cell() {
    Tensor weight_ih = required(), weight_hh = required();
    OptionalTensor bias_ih = next(), bias_hh = next();
    return {weight_ih, weight_hh, bias_ih, bias_hh};
  }
};

// What backward is handed beside the inputs. It was all made by forward and by autograd, unless the op is called by
// hand.
struct Handed {
  const OptionalTensors& grads;
  at::TensorList outputs;
  at::ScalarType type;  // of the public outputs; the others are as exact as sums are
  at::Device device;

  Handed(const OptionalTensors& grads_, at::TensorList outputs_, const c10::List<bool>& needs, const Tensor& x,
         at::ScalarType type_, size_t inputs, size_t all, size_t shown)
      : grads(grads_), outputs(outputs_), type(type_), device(x.device()) {
    TORCH_CHECK_VALUE(outputs.size() == all, "outputs has ", outputs.size(), " tensors, expected ", all);
    TORCH_CHECK_VALUE(grads.size() == shown, "grads has ", grads.size(), " tensors, expected ", shown);
    TORCH_CHECK_VALUE(needs.size() == inputs, "needs has ", needs.size(), " values, expected ", inputs);
  }
  bool rounded() const { return type != exact(); }
  at::ScalarType exact() const { return type == at::kDouble ? at::kDouble : at::kFloat; }
  // A public output, and its gradient.
  void shown(size_t i, const char* name, at::IntArrayRef shape) const {
    check_made(name, outputs[i], shape, type, device);
    OptionalTensor grad = grads.get(i);
    if (!given(grad)) return;
    TORCH_CHECK_VALUE(grad->sizes() == shape, "the gradient of ", name, " has shape ", grad->sizes(), ", expected ",
                      shape);
    TORCH_CHECK_VALUE(grad->device() == device, "the gradient of ", name, " is on ", grad->device(), ", expected ",
                      device);
  }
  void kept(size_t i, const char* name, at::IntArrayRef shape) const {
    check_made(name, outputs[i], shape, exact(), device);
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

void AttentionArguments::check_backward(const Tensor& like, const OptionalTensor& grad_context,
                                        const OptionalTensor& grad_weights, const Tensor& weights,
                                        bool needs_bias) const {
  check_optional("grad_context", grad_context, shape(width), like);
  check_optional("grad_weights", grad_weights, shape(source), like);
  check_like("weights", weights, shape(source), like);
  TORCH_CHECK_VALUE(!needs_bias || bias.defined(), "needs has a gradient of bias, which is None");
}

StepArguments::StepArguments(int64_t gates, const Tensor& gates_x_, const Tensor& gates_h_, const char* name,
                             const Tensor& state_, Prepare prepare) {
  check_dim(name, state_, 2, 2);
  batch = state_.size(0), hidden = state_.size(1), type = state_.scalar_type();
  check_like(name, state_, {batch, hidden}, state_);
  check_like("gates_x", gates_x_, {batch, gates * hidden}, state_);
  check_like("gates_h", gates_h_, {batch, gates * hidden}, state_);
  gates_x = prepare(gates_x_), gates_h = prepare(gates_h_), state = prepare(state_);
}

RecurrenceArguments::RecurrenceArguments(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths,
                                         Prepare prepare, Prepare prepare_matrix) {
  if (!prepare_matrix) prepare_matrix = prepare;
  size_t states = gates == kLstm ? 2 : 1, plain = 5 + states;
  Reader read(list, list.size() > plain ? plain + 1 + states : plain);
  Tensor x_ = read.required(), h0_ = read.required();
  OptionalTensor c0_ = gates == kLstm ? read.next() : std::nullopt;
  Cell cell = read.cell();
  check_cell(gates, x_, h0_, c0_, cell, 0);
  check_lengths(lengths, x_.size(0), x_.size(1), x_);
  type = x_.scalar_type();
  batch = x_.size(0), steps = x_.size(1), hidden = h0_.size(1);
  x = prepare_matrix(x_), h0 = prepare(h0_), c0 = optional(c0_, prepare);
  weight_ih = prepare_matrix(cell.weight_ih), weight_hh = prepare_matrix(cell.weight_hh);
  bias_ih = optional(cell.bias_ih, prepare), bias_hh = optional(cell.bias_hh, prepare);
  if (list.size() == plain) return;
  resets = read.required();
  OptionalTensor reset_h_ = read.next(), reset_c_ = gates == kLstm ? read.next() : std::nullopt;
  TORCH_CHECK_VALUE(gates == kGru || given(reset_h_) == given(reset_c_),
                    "reset_states has one tensor that is None, expected both or neither");
  check_mask(resets, batch, steps, x_, "resets");
  check_optional("reset_states", reset_h_, {batch, steps, hidden}, x_);
  check_optional("reset_states", reset_c_, {batch, steps, hidden}, x_);
  resets = resets.contiguous(), reset_h = optional(reset_h_, prepare), reset_c = optional(reset_c_, prepare);
}

void RecurrenceArguments::check_backward(const OptionalTensors& grads, at::TensorList outputs,
                                         const c10::List<bool>& needs) const {
  bool has_cell = c0.defined();
  size_t states = has_cell ? 2 : 1, inputs = 5 + states + (resets.defined() ? 1 + states : 0);
  Handed handed(grads, outputs, needs, x, type, inputs, shown() + 1 + states, shown());
  size_t i = 0;
  handed.shown(i++, "output", {batch, steps, hidden});
  handed.shown(i++, "h_n", {batch, hidden});
  if (has_cell) handed.shown(i++, "c_n", {batch, hidden});
  if (i < shown()) handed.shown(i++, "cells", {batch, steps, hidden});
  handed.kept(i++, "gates", {batch, steps, 4 * hidden});
  if (rounded()) handed.kept(i, "exact output", {batch, steps, hidden});
  if (has_cell && (rounded() || !resets.defined())) handed.kept(i + 1, "cells", {batch, steps, hidden});
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
  keys = keys_.contiguous().view({batch, source, heads, attention}), values = values_.contiguous();
  v = prepare(v_).view({heads, attention});
  w_query = prepare(w_query_), b_query = optional(b_query_, prepare);
  weight_ih = prepare(cell.weight_ih), weight_hh = prepare(cell.weight_hh);
  bias_ih = optional(cell.bias_ih, prepare), bias_hh = optional(cell.bias_hh, prepare);
  w_feed = optional(w_feed_, prepare), b_feed = optional(b_feed_, prepare);
  first_feed = optional(first_feed_, prepare);
}

void AttentionRecurrenceArguments::check_backward(const OptionalTensors& grads, at::TensorList outputs,
                                                  const c10::List<bool>& needs) const {
  bool has_cell = c0.defined();
  Handed handed(grads, outputs, needs, x, type, has_cell ? 15 : 14, has_cell ? 13 : 11, has_cell ? 6 : 5);
  std::vector<int64_t> states = {batch, steps, hidden}, contexts = {batch, steps + 1, context()}, fed = {0};
  if (w_feed.defined()) fed = {batch, steps + 1, feed};
  size_t i = 0;
  handed.shown(i++, "states", states);
  handed.shown(i++, "contexts", contexts);
  handed.shown(i++, "weights", weights_shape());
  handed.shown(i++, "feeds", fed);
  handed.shown(i++, "h_n", {batch, hidden});
  if (has_cell) handed.shown(i++, "c_n", {batch, hidden});
  handed.kept(i++, "gates", {batch, steps, 4 * hidden});
  if (has_cell) handed.kept(i++, "cells", states);
  handed.kept(i++, "queries", {batch, steps + 1, heads * attention});
  if (!handed.rounded()) return;
  handed.kept(i++, "exact states", states);
  handed.kept(i++, "exact contexts", contexts);
  handed.kept(i++, "exact weights", weights_shape());
  handed.kept(i++, "exact feeds", fed);
}

std::vector<int64_t> AttentionRecurrenceArguments::weights_shape() const {
  std::vector<int64_t> shape = {batch, steps + 1};
  if (v_shape.size() == 2) shape.push_back(heads);
  shape.push_back(source);
  return shape;
}

SearchArguments::SearchArguments(const SearchInputs& from, Prepare prepare) {
  size_t states = from.state.size();
  TORCH_CHECK_VALUE(states == 1 || states == 2, "state has ", states,
                    " tensors, expected (h0) for a GRU or (h0, c0) for an LSTM");
  const Tensor& like = from.state[0];
  check_dim("h0", like, 2, 2);
  check_dim("v", from.v, 1, 2);
  check_dim("keys", from.keys, 2 + from.v.dim(), 2 + from.v.dim());
  check_dim("values", from.values, 3, 3);
  check_dim("embedding", from.embedding, 2, 2);
  check_dim("weight_ih", from.weight_ih, 2, 2);
  gates = states == 1 ? kGru : kLstm;
  batch = like.size(0), hidden = like.size(1), source = from.keys.size(1), width = from.values.size(2);
  heads = from.v.dim() == 2 ? from.v.size(0) : 1, attention = from.v.size(-1);
  inputs = from.embedding.size(1), feed = from.weight_ih.size(1) - inputs;
  TORCH_CHECK_VALUE(feed == 0 || given(from.w_feed) || feed == context(), "weight_ih has shape ",
                    from.weight_ih.sizes(), ", expected ", inputs, " columns or ", context(), " more");
  check_like("h0", like, {batch, hidden}, like);
  if (gates == kLstm) check_like("c0", from.state[1], {batch, hidden}, like);
  std::vector<int64_t> keys_shape = {batch, source};
  keys_shape.insert(keys_shape.end(), from.v.sizes().begin(), from.v.sizes().end());
  check_like("keys", from.keys, keys_shape, like);
  check_like("values", from.values, {batch, source, width}, like);
  check_like("v", from.v, from.v.sizes(), like);
  check_like("w_query", from.w_query, {heads * attention, hidden}, like);
  check_optional("b_query", from.b_query, {heads * attention}, like);
  check_like("weight_ih", from.weight_ih, {gates * hidden, inputs + feed}, like);
  check_like("weight_hh", from.weight_hh, {gates * hidden, hidden}, like);
  check_optional("bias_ih", from.bias_ih, {gates * hidden}, like);
  check_optional("bias_hh", from.bias_hh, {gates * hidden}, like);
  check_optional("w_feed", from.w_feed, {feed, hidden + context()}, like);
  check_optional("b_feed", from.b_feed, {feed}, like);
  check_optional("first_feed", from.first_feed, {batch, feed}, like);
  check_lengths(from.lengths, batch, source, like);
  check_mask(from.mask, batch, source, like);
  TORCH_CHECK_VALUE(from.order != "before" || !given(from.w_feed),
                    "w_feed is given with order 'before', expected 'after'");

  h0 = prepare(like), c0 = gates == kLstm ? prepare(from.state[1]) : Tensor();
  keys = prepare(from.keys).view({batch, source, heads, attention}), values = prepare(from.values);
  v = prepare(from.v).view({heads, attention}), first_feed = optional(from.first_feed, prepare);
  w_query = from.w_query, weight_ih = from.weight_ih, weight_hh = from.weight_hh;
  w_feed = from.w_feed.value_or(Tensor());
  b_query = optional(from.b_query, prepare), b_feed = optional(from.b_feed, prepare);
  bias_ih = optional(from.bias_ih, prepare), bias_hh = optional(from.bias_hh, prepare);
  take_outputs({from.embedding, from.w_output, from.b_output, from.w_readout, from.b_readout, from.order, from.readout},
               like, prepare);
}

void SearchArguments::take_outputs(const SearchOutputs& from, const Tensor& like, Prepare prepare) {
  check_dim("w_output", from.w_output, 2, 2);
  vocab = from.w_output.size(0);
  check_like("embedding", from.embedding, from.embedding.sizes(), like);
  TORCH_CHECK_VALUE(from.embedding.size(0) >= vocab, "embedding has ", from.embedding.size(0),
                    " rows, expected one for each of ", vocab, " tokens");
  TORCH_CHECK_VALUE(from.order == "before" || from.order == "after", "order is '", from.order,
                    "', expected 'before' or 'after'");
  attend_first = from.order == "before";
  if (from.readout == "state") {
    readout_from = hidden;
  } else if (from.readout == "state_context") {
    readout_from = hidden + context();
  } else if (from.readout == "state_context_input") {
    readout_from = hidden + context() + inputs;
  } else {
    TORCH_CHECK_VALUE(from.readout == "feed", "readout is '", from.readout,
                      "', expected 'state', 'state_context', 'state_context_input' or 'feed'");
    TORCH_CHECK_VALUE(w_feed.defined(), "readout is 'feed' without w_feed, expected both");
    TORCH_CHECK_VALUE(!attend_first, "readout is 'feed' with order 'before', expected 'after'");
    readout_from = 0;
  }
  reads_feed = from.readout == "feed";
  int64_t features = reads_feed ? feed : readout_from;
  if (given(from.w_readout)) {
    check_dim("w_readout", *from.w_readout, 2, 2);
    check_like("w_readout", *from.w_readout, {from.w_readout->size(0), features}, like);
    features = from.w_readout->size(0);
  }
  check_optional("b_readout", from.b_readout, {features}, like);
  check_like("w_output", from.w_output, {vocab, features}, like);
  check_optional("b_output", from.b_output, {vocab}, like);
  embedding = from.embedding, w_output = from.w_output, w_readout = from.w_readout.value_or(Tensor());
  b_readout = optional(from.b_readout, prepare), b_output = optional(from.b_output, prepare);
}

void SearchOptions::check(const SearchArguments& in) const {
  auto token = [](const char* name, int64_t id, int64_t size) {
    TORCH_CHECK_VALUE(0 <= id && id < size, name, " is ", id, ", expected a token from 0 to ", size - 1);
  };
  token("bos", bos, in.embedding.size(0));
  token("eos", eos, in.vocab);
  for (int64_t id : forbidden) token("forbidden", id, in.vocab);
  TORCH_CHECK_VALUE(max_length >= 0, "max_length is ", max_length, ", expected 0 or more");
  TORCH_CHECK_VALUE(beam >= 1, "beam is ", beam, ", expected 1 or more");
  TORCH_CHECK_VALUE(1 <= n_best && n_best <= beam, "n_best is ", n_best, ", expected 1 to beam = ", beam);
  // Rows and paths are counted in 32 bits.
  constexpr double kMost = 2147483648.0;
  TORCH_CHECK_VALUE(double(in.batch) * double(beam) * (double(max_length) + 1) < kMost, "beam is ", beam,
                    " and max_length is ", max_length, ", expected B * beam * (max_length + 1) below 2^31");
  TORCH_CHECK_VALUE(std::isfinite(length_penalty), "length_penalty is ", length_penalty, ", expected a finite number");
  TORCH_CHECK_VALUE(coverage_penalty >= 0 && std::isfinite(coverage_penalty), "coverage_penalty is ", coverage_penalty,
                    ", expected a finite number, 0 or more");
  check_lengths(limits, in.batch, max_length, in.h0, "limits");
}

}  // namespace s2s
