// The arguments of the ops as a backend's kernels want them: checked, with their sizes, and each tensor as `prepare`
// makes it (contiguous; on the CPU also in the computing dtype).
#pragma once

#include <ATen/ops/empty.h>

#include "ops.h"

namespace s2s {

// A cell is known by its number of gates: 3 for a GRU, 4 for an LSTM.
constexpr int64_t kGru = 3, kLstm = 4;

using Prepare = Tensor (*)(const Tensor& x);

inline bool given(const OptionalTensor& x) { return x.has_value() && x->defined(); }

// A result that was not asked for.
inline Tensor nothing(const Tensor& like) { return at::empty({0}, like.options()); }

// What gradients are added to: it begins as the one that came in, or as zeros.
inline Tensor begin_as(const OptionalTensor& grad, const Tensor& to) {
  return given(grad) ? to.copy_(*grad) : to.zero_();
}

inline Tensor columns(const Tensor& x, int64_t begin, int64_t end) { return x.narrow(1, begin, end - begin); }

// Everything as (B, T, N, A), (B, S, N, A), (B, S, D), (N, A).
struct AttentionArguments {
  Tensor query, keys, values, v, bias;
  int64_t batch, queries, heads, attention, source, width;
  int64_t bias_stride;        // between queries; 0: one bias for all
  std::vector<int64_t> lead;  // the public leading dimensions: B, [T,] [N]

  AttentionArguments(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                     const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias,
                     Prepare prepare);
  Tensor empty(at::IntArrayRef shape) const { return at::empty(shape, query.options()); }
  std::vector<int64_t> shape(int64_t last) const;  // lead and one more dimension
  // What backward is handed beside the inputs; `like`: the query as it came in.
  void check_backward(const Tensor& like, const OptionalTensor& grad_context, const OptionalTensor& grad_weights,
                      const Tensor& weights, bool needs_bias) const;
};

// One step of a cell. state: its own (B, H), called `name`: a GRU's h, an LSTM's c.
struct StepArguments {
  Tensor gates_x, gates_h, state;
  at::ScalarType type;  // of the public tensors
  int64_t batch, hidden;

  StepArguments(int64_t gates, const Tensor& gates_x, const Tensor& gates_h, const char* name, const Tensor& state,
                Prepare prepare);
  Tensor empty(int64_t width) const { return at::empty({batch, width}, state.options()); }
};

struct RecurrenceArguments {
  Tensor x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh;
  Tensor resets, reset_h, reset_c;  // undefined: no resets; to zeros
  at::ScalarType type;              // of the public tensors
  int64_t batch, steps, hidden;

  // prepare_matrix: x's and the weights' own, if not the same.
  RecurrenceArguments(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths, Prepare prepare,
                      Prepare prepare_matrix = nullptr);
  // What backward is handed beside the inputs.
  void check_backward(const OptionalTensors& grads, at::TensorList outputs, const c10::List<bool>& needs) const;
  // Outputs of the halves: the number of public ones, and what backward reads.
  size_t shown() const { return !c0.defined() ? 2 : resets.defined() ? 4 : 3; }
  bool rounded() const { return type != at::kDouble && type != at::kFloat; }
  Tensor saved_gates(at::TensorList outputs) const { return outputs[shown()]; }
  Tensor exact_output(at::TensorList outputs) const { return outputs[rounded() ? shown() + 1 : 0]; }
  Tensor exact_cells(at::TensorList outputs) const {
    return !c0.defined() ? Tensor() : outputs[resets.defined() && !rounded() ? 3 : shown() + 2];
  }
  Tensor empty(at::IntArrayRef shape) const { return at::empty(shape, h0.options()); }
};

// Keys as (B, S, N, A) and v as (N, A). Keys and values are contiguous, in their own dtype.
struct AttentionRecurrenceArguments {
  Tensor x, h0, c0, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, w_feed, b_feed,
      first_feed;
  at::ScalarType type;           // of the public tensors
  std::vector<int64_t> v_shape;  // public: (A,) or (N, A)
  int64_t batch, steps, inputs, hidden, source, heads, attention, width, feed;

  AttentionRecurrenceArguments(int64_t gates, const OptionalTensors& list, const OptionalTensor& lengths,
                               const OptionalTensor& mask, Prepare prepare);
  // What backward is handed beside the inputs.
  void check_backward(const OptionalTensors& grads, at::TensorList outputs, const c10::List<bool>& needs) const;
  int64_t context() const { return heads * width; }
  Tensor weight_x() const { return columns(weight_ih, 0, inputs); }
  Tensor weight_feed() const { return columns(weight_ih, inputs, inputs + feed); }
  Tensor feed_h() const { return columns(w_feed, 0, hidden); }
  Tensor feed_c() const { return columns(w_feed, hidden, hidden + context()); }
  std::vector<int64_t> weights_shape() const;  // (B, T+1, [N,] S)
  Tensor empty(at::IntArrayRef shape) const { return at::empty(shape, x.options()); }
};

// What beam_search was called with, but for its options.
struct SearchInputs {
  at::TensorList state;
  const Tensor &keys, &values, &v, &w_query;
  const OptionalTensor& b_query;
  const Tensor &weight_ih, &weight_hh;
  const OptionalTensor &bias_ih, &bias_hh;
  const Tensor &embedding, &w_output;
  const OptionalTensor &b_output, &w_feed, &b_feed, &first_feed, &w_readout, &b_readout, &lengths, &mask;
  std::string_view order, readout;
};

// What a search makes tokens with and reads them by.
struct SearchOutputs {
  const Tensor &embedding, &w_output;
  const OptionalTensor &b_output, &w_readout, &b_readout;
  std::string_view order, readout;
};

// Keys as (B, S, N, A) and v as (N, A). Matrices of weights are not prepared: they are as they came in.
struct SearchArguments {
  Tensor h0, c0, keys, values, v, first_feed;
  Tensor w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, w_feed, b_feed, w_readout, b_readout;
  Tensor embedding, w_output, b_output;
  int64_t gates, batch, source, hidden, heads, attention, width, inputs, feed, vocab;
  bool attend_first;     // before the cell; else after it
  bool reads_feed;       // the readout; else it reads
  int64_t readout_from;  // as much of a row [h ; context ; x]

  SearchArguments() = default;
  SearchArguments(const SearchInputs& inputs, Prepare prepare);
  // When all sizes but `vocab` and w_feed are there.
  void take_outputs(const SearchOutputs& from, const Tensor& like, Prepare prepare);
  int64_t context() const { return heads * width; }
};

struct SearchOptions {
  int64_t bos, eos, max_length, beam, n_best;
  double length_penalty, coverage_penalty;
  at::IntArrayRef forbidden;
  const OptionalTensor& limits;

  void check(const SearchArguments& in) const;
};

}  // namespace s2s
