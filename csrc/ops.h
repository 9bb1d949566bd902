// Every op of the package, once. Public ops are documented in s2s_kernels/ops/<op>.py; what backends implement are
// the two steps', additive attention's and beam search's ops themselves, and the forward and backward halves of the
// others.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

namespace s2s {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using OptionalTensors = c10::List<OptionalTensor>;
using Tensors = std::vector<Tensor>;
template <int n>
using Needs = std::array<bool, n>;  // which gradients are wanted; the others come back empty
using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Six = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// ---- public ops, through the dispatcher: any backend, with autograd

Two additive_attention(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                       const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias);
Tensor gru_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h);
Two lstm_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c);
Two gru(const Tensor& x, const Tensor& h0, const Tensor& weight_ih, const Tensor& weight_hh,
        const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, const OptionalTensor& lengths, bool reverse,
        const OptionalTensor& resets, const OptionalTensor& reset_states);
Three lstm(const Tensor& x, at::TensorList state, const Tensor& weight_ih, const Tensor& weight_hh,
           const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, const OptionalTensor& lengths, bool reverse,
           const OptionalTensor& resets, const std::optional<at::TensorList>& reset_states);
// Both directions of a layer: two calls of the above, the second in reverse. Behind s2s_kernels.nn's modules.
Two gru_bidirectional(const Tensor& x, const Tensor& h0, const Tensor& weight_ih, const Tensor& weight_hh,
                      const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, const Tensor& h0_reverse,
                      const Tensor& weight_ih_reverse, const Tensor& weight_hh_reverse,
                      const OptionalTensor& bias_ih_reverse, const OptionalTensor& bias_hh_reverse,
                      const OptionalTensor& lengths);
Three lstm_bidirectional(const Tensor& x, at::TensorList state, const Tensor& weight_ih, const Tensor& weight_hh,
                         const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, at::TensorList state_reverse,
                         const Tensor& weight_ih_reverse, const Tensor& weight_hh_reverse,
                         const OptionalTensor& bias_ih_reverse, const OptionalTensor& bias_hh_reverse,
                         const OptionalTensor& lengths);
Five attention_gru(const Tensor& x, const Tensor& h0, const Tensor& keys, const Tensor& values, const Tensor& v,
                   const Tensor& w_query, const OptionalTensor& b_query, const Tensor& weight_ih,
                   const Tensor& weight_hh, const OptionalTensor& bias_ih, const OptionalTensor& bias_hh,
                   const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& w_feed,
                   const OptionalTensor& b_feed, const OptionalTensor& first_feed);
Six attention_lstm(const Tensor& x, at::TensorList state, const Tensor& keys, const Tensor& values, const Tensor& v,
                   const Tensor& w_query, const OptionalTensor& b_query, const Tensor& weight_ih,
                   const Tensor& weight_hh, const OptionalTensor& bias_ih, const OptionalTensor& bias_hh,
                   const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& w_feed,
                   const OptionalTensor& b_feed, const OptionalTensor& first_feed);
Tensor linear_cross_entropy(const Tensor& features, const Tensor& weight, const OptionalTensor& bias,
                            const Tensor& targets, double label_smoothing);

// ---- the halves of gru, lstm, attention_gru, attention_lstm and the bidirectional ops: one signature, the arguments
// in lists

// Inputs, in order. A cell: weight_ih, weight_hh, bias_ih, bias_hh. Sequences: x, h0, [c0,] cell, and where there are
// resets: resets, reset_h, [reset_c].
// Both directions: x, h0, [c0,] cell, and the reverse one's h0, [c0,] cell.
// Scans: x, h0, [c0,] keys, values, v, w_query, b_query, cell, w_feed, b_feed, first_feed.
// Outputs: the public ones, then what only backward reads (empty unless `save`); `exact` are public outputs before
// they were rounded to 16 bits (empty for float32 and float64).
// gru: output, h_n | gates, exact output. lstm: output, h_n, c_n | gates, exact output, cells; with resets, whose
// states are to be seen, too: output, h_n, c_n, cells | gates, exact output, exact cells.
// attention_gru: states, contexts, weights, feeds (empty without w_feed), h_n | gates, queries, exact states,
// contexts, weights and feeds. attention_lstm: states, contexts, weights, feeds, h_n, c_n | gates, cells, queries,
// exact as before.
// gru_bidirectional: output, h_n | of each direction what gru returns. lstm_bidirectional: output, h_n, c_n | of each
// what lstm returns.
// mask belongs to the scans alone, reverse to the sequences.
using RecurrenceForward = Tensors(const OptionalTensors& inputs, const OptionalTensor& lengths,
                                  const OptionalTensor& mask, bool reverse, bool save);
// grads: of the public outputs; outputs: all that forward returned, of both directions only what is behind the |; needs
// and result: one an input.
using RecurrenceBackward = Tensors(const OptionalTensors& grads, const OptionalTensors& inputs,
                                   const OptionalTensor& lengths, const OptionalTensor& mask, bool reverse,
                                   at::TensorList outputs, const c10::List<bool>& needs);

// A search, with its long list of arguments as two; see beam_search.h.
struct SearchInputs;
struct SearchOptions;
using Search = Four(const SearchInputs& inputs, const SearchOptions& options, bool return_weights);

constexpr const char* kRecurrences[] = {
    "gru", "lstm", "attention_gru", "attention_lstm", "gru_bidirectional", "lstm_bidirectional"};
constexpr int kPublicOutputs[] = {2, 3, 5, 6, 2, 3};
// Of the halves, which may have one more than the op.
constexpr int public_outputs(int which, size_t inputs) { return kPublicOutputs[which] + (which == 1 && inputs > 7); }
// Where what backward is handed of the outputs begins.
constexpr int kept_outputs(int which) { return which >= 4 ? kPublicOutputs[which] : 0; }

namespace cpu {

Two additive_attention(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                       const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias);
Five additive_attention_backward(const OptionalTensor& grad_context, const OptionalTensor& grad_weights,
                                 const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                                 const Tensor& weights, const OptionalTensor& lengths, const OptionalTensor& mask,
                                 const OptionalTensor& bias, Needs<5> needs);
Tensor gru_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h);
Three gru_step_backward(const Tensor& grad_h, const Tensor& gates_x, const Tensor& gates_h, const Tensor& h);
Two lstm_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c);
Two lstm_step_backward(const OptionalTensor& grad_h, const OptionalTensor& grad_c, const Tensor& gates_x,
                       const Tensor& gates_h, const Tensor& c);
Search beam_search;
// The same of a decoder with parts; inputs and form as in attention_decoder_forward, with the embedding as x. packed:
// its matrices in 8 bits, see s2s_kernels/quantize.py.
Four decoder_search(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                    at::IntArrayRef form, const Tensor& w_output, const OptionalTensor& b_output,
                    const OptionalTensor& w_readout, const OptionalTensor& b_readout, std::string_view order,
                    std::string_view readout, int64_t bos, int64_t eos, int64_t max_length, int64_t beam,
                    int64_t n_best, double length_penalty, double coverage_penalty, at::IntArrayRef forbidden,
                    const OptionalTensor& limits, bool return_weights, const std::optional<at::TensorList>& packed);
Four linear_cross_entropy_forward(const Tensor& features, const Tensor& weight, const OptionalTensor& bias,
                                  const Tensor& targets, double label_smoothing, Needs<3> needs);
Three linear_cross_entropy_backward(const Tensor& grad_loss, const Tensor& features, const Tensor& weight,
                                    const OptionalTensor& bias, const Tensor& targets, double label_smoothing,
                                    const Tensor& grad_features, const Tensor& grad_weight, const Tensor& grad_bias);
// The attention decoder with its parts (docs/ops.md); inputs, outputs and form are those of cpu/decoder/inputs.h.
Tensors attention_decoder_forward(const OptionalTensors& inputs, const OptionalTensor& lengths,
                                  const OptionalTensor& mask, at::IntArrayRef form, bool save);
Tensors attention_decoder_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                   const OptionalTensor& lengths, const OptionalTensor& mask, at::IntArrayRef form,
                                   at::TensorList outputs, const c10::List<bool>& needs);
RecurrenceForward gru_forward, lstm_forward, attention_gru_forward, attention_lstm_forward, gru_bidirectional_forward,
    lstm_bidirectional_forward;
RecurrenceBackward gru_backward, lstm_backward, attention_gru_backward, attention_lstm_backward,
    gru_bidirectional_backward, lstm_bidirectional_backward;

}  // namespace cpu

}  // namespace s2s
