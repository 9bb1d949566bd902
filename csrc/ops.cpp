// The registry: every op's schema, the public recurrences on top of their halves, and the CPU implementations.
#include "ops.h"

#include <ATen/core/grad_mode.h>
#include <torch/library.h>

#include "beam_search.h"
#include "cpu/threads/aten.h"
#include "cpu/threads/pool.h"
#include "find_op.h"

namespace s2s {

namespace {

// What backward wants is saved only when something will run backward.
bool wants_grad(const OptionalTensors& inputs) {
  if (!c10::GradMode::is_enabled()) return false;
  for (const OptionalTensor& x : inputs)
    if (x.has_value() && x->requires_grad()) return true;
  return false;
}

template <int which>
Tensors recurrence(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                   bool reverse) {
  static auto op = find_op<RecurrenceForward>(std::string(kRecurrences[which]) + "_forward");
  return op.call(inputs, lengths, mask, reverse, wants_grad(inputs));
}

void check_pair(at::TensorList state, const char* name = "state") {
  TORCH_CHECK_VALUE(state.size() == 2, name, " has ", state.size(), " tensors, expected a pair (h0, c0)");
}

// Puts resets behind the other inputs, if there are any.
void add_resets(OptionalTensors& inputs, const OptionalTensor& resets, std::initializer_list<OptionalTensor> states) {
  if (resets.has_value()) inputs.push_back(resets);
  for (const OptionalTensor& state : states) {
    TORCH_CHECK_VALUE(resets.has_value() || !state.has_value(),
                      "reset_states is given, but resets is None, expected both or neither");
    if (resets.has_value()) inputs.push_back(state);
  }
}

template <auto f>
struct in_own_threads;

// f; while libgomp's threads come late ATen is kept out of them.
template <class R, class... Arguments, R (*f)(Arguments...)>
struct in_own_threads<f> {
  static R call(Arguments... arguments) {
    cpu::threads::KeepAtenHere kept(!cpu::threads::with_openmp());
    return f(std::forward<Arguments>(arguments)...);
  }
};

}  // namespace

Two additive_attention(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                       const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias) {
  static auto op = find_op<decltype(additive_attention)>("additive_attention");
  return op.call(query, keys, values, v, lengths, mask, bias);
}

Tensor gru_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  static auto op = find_op<decltype(gru_step)>("gru_step");
  return op.call(gates_x, gates_h, h);
}

Two lstm_step(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c) {
  static auto op = find_op<decltype(lstm_step)>("lstm_step");
  return op.call(gates_x, gates_h, c);
}

Two gru(const Tensor& x, const Tensor& h0, const Tensor& weight_ih, const Tensor& weight_hh,
        const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, const OptionalTensor& lengths, bool reverse,
        const OptionalTensor& resets, const OptionalTensor& reset_states) {
  OptionalTensors inputs({x, h0, weight_ih, weight_hh, bias_ih, bias_hh});
  add_resets(inputs, resets, {reset_states});
  auto out = recurrence<0>(inputs, lengths, {}, reverse);
  return {out[0], out[1]};
}

Three lstm(const Tensor& x, at::TensorList state, const Tensor& weight_ih, const Tensor& weight_hh,
           const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, const OptionalTensor& lengths, bool reverse,
           const OptionalTensor& resets, const std::optional<at::TensorList>& reset_states) {
  check_pair(state);
  TORCH_CHECK_VALUE(!reset_states.has_value() || reset_states->size() == 2, "reset_states has ", reset_states->size(),
                    " tensors, expected a pair");
  OptionalTensors inputs({x, state[0], state[1], weight_ih, weight_hh, bias_ih, bias_hh});
  OptionalTensor reset_h, reset_c;
  if (reset_states.has_value()) reset_h = (*reset_states)[0], reset_c = (*reset_states)[1];
  add_resets(inputs, resets, {reset_h, reset_c});
  auto out = recurrence<1>(inputs, lengths, {}, reverse);
  return {out[0], out[1], out[2]};
}

Two gru_bidirectional(const Tensor& x, const Tensor& h0, const Tensor& weight_ih, const Tensor& weight_hh,
                      const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, const Tensor& h0_reverse,
                      const Tensor& weight_ih_reverse, const Tensor& weight_hh_reverse,
                      const OptionalTensor& bias_ih_reverse, const OptionalTensor& bias_hh_reverse,
                      const OptionalTensor& lengths) {
  OptionalTensors inputs({x, h0, weight_ih, weight_hh, bias_ih, bias_hh, h0_reverse, weight_ih_reverse,
                          weight_hh_reverse, bias_ih_reverse, bias_hh_reverse});
  auto out = recurrence<4>(inputs, lengths, {}, false);
  return {out[0], out[1]};
}

Three lstm_bidirectional(const Tensor& x, at::TensorList state, const Tensor& weight_ih, const Tensor& weight_hh,
                         const OptionalTensor& bias_ih, const OptionalTensor& bias_hh, at::TensorList state_reverse,
                         const Tensor& weight_ih_reverse, const Tensor& weight_hh_reverse,
                         const OptionalTensor& bias_ih_reverse, const OptionalTensor& bias_hh_reverse,
                         const OptionalTensor& lengths) {
  check_pair(state);
  check_pair(state_reverse, "state_reverse");
  OptionalTensors inputs({x, state[0], state[1], weight_ih, weight_hh, bias_ih, bias_hh, state_reverse[0],
                          state_reverse[1], weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse});
  auto out = recurrence<5>(inputs, lengths, {}, false);
  return {out[0], out[1], out[2]};
}

Five attention_gru(const Tensor& x, const Tensor& h0, const Tensor& keys, const Tensor& values, const Tensor& v,
                   const Tensor& w_query, const OptionalTensor& b_query, const Tensor& weight_ih,
                   const Tensor& weight_hh, const OptionalTensor& bias_ih, const OptionalTensor& bias_hh,
                   const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& w_feed,
                   const OptionalTensor& b_feed, const OptionalTensor& first_feed) {
  OptionalTensors inputs(
      {x, h0, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, w_feed, b_feed, first_feed});
  auto out = recurrence<2>(inputs, lengths, mask, false);
  return {out[0], out[1], out[2], out[3], out[4]};
}

Six attention_lstm(const Tensor& x, at::TensorList state, const Tensor& keys, const Tensor& values, const Tensor& v,
                   const Tensor& w_query, const OptionalTensor& b_query, const Tensor& weight_ih,
                   const Tensor& weight_hh, const OptionalTensor& bias_ih, const OptionalTensor& bias_hh,
                   const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& w_feed,
                   const OptionalTensor& b_feed, const OptionalTensor& first_feed) {
  check_pair(state);
  OptionalTensors inputs({x, state[0], state[1], keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih,
                          bias_hh, w_feed, b_feed, first_feed});
  auto out = recurrence<3>(inputs, lengths, mask, false);
  return {out[0], out[1], out[2], out[3], out[4], out[5]};
}

Tensor linear_cross_entropy(const Tensor& features, const Tensor& weight, const OptionalTensor& bias,
                            const Tensor& targets, double label_smoothing) {
  static auto op = find_op<decltype(cpu::linear_cross_entropy_forward)>("linear_cross_entropy_forward");
  auto wanted = [](const OptionalTensor& x) {
    return c10::GradMode::is_enabled() && x.has_value() && x->defined() && x->requires_grad();
  };
  return std::get<0>(
      op.call(features, weight, bias, targets, label_smoothing, {wanted(features), wanted(weight), wanted(bias)}));
}

TORCH_LIBRARY(s2s_kernels, m) {
  const std::string cell = "Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih=None, Tensor? bias_hh=None, *, ";
  const std::string source = "Tensor keys, Tensor values, Tensor v, Tensor w_query, Tensor? b_query, ";
  const std::string scan =
      "Tensor? lengths=None, Tensor? mask=None, Tensor? w_feed=None, Tensor? b_feed=None, "
      "Tensor? first_feed=None) -> (Tensor states, Tensor contexts, Tensor weights, Tensor feeds, ";
  const std::string options = "Tensor? lengths=None, bool reverse=False, Tensor? resets=None, ";

  m.def(
      "additive_attention(Tensor query, Tensor keys, Tensor values, Tensor v, *, Tensor? lengths=None, "
      "Tensor? mask=None, Tensor? bias=None) -> (Tensor context, Tensor weights)");
  m.def(
      "additive_attention_backward(Tensor? grad_context, Tensor? grad_weights, Tensor query, Tensor keys, "
      "Tensor values, Tensor v, Tensor weights, Tensor? lengths, Tensor? mask, Tensor? bias, bool[5] needs) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("gru_step(Tensor gates_x, Tensor gates_h, Tensor h) -> Tensor");
  m.def("gru_step_backward(Tensor grad_h, Tensor gates_x, Tensor gates_h, Tensor h) -> (Tensor, Tensor, Tensor)");
  m.def("lstm_step(Tensor gates_x, Tensor gates_h, Tensor c) -> (Tensor h, Tensor c)");
  m.def(
      "lstm_step_backward(Tensor? grad_h, Tensor? grad_c, Tensor gates_x, Tensor gates_h, Tensor c) -> "
      "(Tensor, Tensor)");

  m.def(("beam_search(Tensor[] state, " + source +
         "Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
         "Tensor? bias_hh, Tensor embedding, Tensor w_output, Tensor? b_output, *, int bos, int eos, int max_length, "
         "int beam=5, int n_best=1, float length_penalty=0.0, float coverage_penalty=0.0, int[] forbidden=[], "
         "Tensor? limits=None, Tensor? lengths=None, Tensor? mask=None, str order='before', Tensor? w_feed=None, "
         "Tensor? b_feed=None, Tensor? first_feed=None, str readout='state', Tensor? w_readout=None, "
         "Tensor? b_readout=None, bool return_weights=False) -> "
         "(Tensor ids, Tensor lengths, Tensor scores, Tensor weights)")
            .c_str());

  m.def(
      "linear_cross_entropy_forward(Tensor features, Tensor weight, Tensor? bias, Tensor targets, "
      "float label_smoothing, bool[3] needs) -> (Tensor loss, Tensor, Tensor, Tensor)");
  m.def(
      "linear_cross_entropy_backward(Tensor grad_loss, Tensor features, Tensor weight, Tensor? bias, "
      "Tensor targets, float label_smoothing, Tensor grad_features, Tensor grad_weight, Tensor grad_bias) -> (Tensor, "
      "Tensor, Tensor)");

  auto def = [&](const std::string& schema, auto f) {
    m.def(schema.c_str(), torch::dispatch(c10::DispatchKey::CompositeImplicitAutograd, f));
  };
  def("gru(Tensor x, Tensor h0, " + cell + options + "Tensor? reset_states=None) -> (Tensor output, Tensor h_n)",
      TORCH_FN(gru));
  def("lstm(Tensor x, Tensor[] state, " + cell + options +
          "Tensor[]? reset_states=None) -> (Tensor output, Tensor h_n, Tensor c_n)",
      TORCH_FN(lstm));
  const std::string both = "Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, ";
  const std::string reverse =
      "Tensor weight_ih_reverse, Tensor weight_hh_reverse, Tensor? bias_ih_reverse=None, "
      "Tensor? bias_hh_reverse=None, *, Tensor? lengths=None) -> (Tensor output, Tensor h_n";
  def("gru_bidirectional(Tensor x, Tensor h0, " + both + "Tensor h0_reverse, " + reverse + ")",
      TORCH_FN(gru_bidirectional));
  def("lstm_bidirectional(Tensor x, Tensor[] state, " + both + "Tensor[] state_reverse, " + reverse + ", Tensor c_n)",
      TORCH_FN(lstm_bidirectional));
  def("attention_gru(Tensor x, Tensor h0, " + source + cell + scan + "Tensor h_n)", TORCH_FN(attention_gru));
  def("attention_lstm(Tensor x, Tensor[] state, " + source + cell + scan + "Tensor h_n, Tensor c_n)",
      TORCH_FN(attention_lstm));
  def("linear_cross_entropy(Tensor features, Tensor weight, Tensor? bias, Tensor targets, float label_smoothing=0.0) "
      "-> Tensor",
      TORCH_FN(linear_cross_entropy));
  for (std::string name : kRecurrences) {
    m.def((name + "_forward(Tensor?[] inputs, Tensor? lengths, Tensor? mask, bool reverse, bool save) -> Tensor[]")
              .c_str());
    m.def((name + "_backward(Tensor?[] grads, Tensor?[] inputs, Tensor? lengths, Tensor? mask, bool reverse, "
                  "Tensor[] outputs, bool[] needs) -> Tensor[]")
              .c_str());
  }
}

TORCH_LIBRARY_IMPL(s2s_kernels, CPU, m) {
  m.impl("additive_attention", TORCH_FN(in_own_threads<cpu::additive_attention>::call));
  m.impl("additive_attention_backward", TORCH_FN(in_own_threads<cpu::additive_attention_backward>::call));
  m.impl("gru_step", TORCH_FN(in_own_threads<cpu::gru_step>::call));
  m.impl("gru_step_backward", TORCH_FN(in_own_threads<cpu::gru_step_backward>::call));
  m.impl("lstm_step", TORCH_FN(in_own_threads<cpu::lstm_step>::call));
  m.impl("lstm_step_backward", TORCH_FN(in_own_threads<cpu::lstm_step_backward>::call));
  m.impl("beam_search", TORCH_FN((in_own_threads<beam_search<cpu::beam_search>>::call)));
  m.impl("decoder_search", TORCH_FN(in_own_threads<cpu::decoder_search>::call));
  m.impl("linear_cross_entropy_forward", TORCH_FN(in_own_threads<cpu::linear_cross_entropy_forward>::call));
  m.impl("linear_cross_entropy_backward", TORCH_FN(in_own_threads<cpu::linear_cross_entropy_backward>::call));
  m.impl("gru_forward", TORCH_FN(in_own_threads<cpu::gru_forward>::call));
  m.impl("gru_backward", TORCH_FN(in_own_threads<cpu::gru_backward>::call));
  m.impl("lstm_forward", TORCH_FN(in_own_threads<cpu::lstm_forward>::call));
  m.impl("lstm_backward", TORCH_FN(in_own_threads<cpu::lstm_backward>::call));
  m.impl("attention_gru_forward", TORCH_FN(in_own_threads<cpu::attention_gru_forward>::call));
  m.impl("attention_gru_backward", TORCH_FN(in_own_threads<cpu::attention_gru_backward>::call));
  m.impl("attention_lstm_forward", TORCH_FN(in_own_threads<cpu::attention_lstm_forward>::call));
  m.impl("attention_lstm_backward", TORCH_FN(in_own_threads<cpu::attention_lstm_backward>::call));
  m.impl("gru_bidirectional_forward", TORCH_FN(in_own_threads<cpu::gru_bidirectional_forward>::call));
  m.impl("gru_bidirectional_backward", TORCH_FN(in_own_threads<cpu::gru_bidirectional_backward>::call));
  m.impl("lstm_bidirectional_forward", TORCH_FN(in_own_threads<cpu::lstm_bidirectional_forward>::call));
  m.impl("lstm_bidirectional_backward", TORCH_FN(in_own_threads<cpu::lstm_bidirectional_backward>::call));
  m.impl("attention_decoder_forward", TORCH_FN(in_own_threads<cpu::attention_decoder_forward>::call));
  m.impl("attention_decoder_backward", TORCH_FN(in_own_threads<cpu::attention_decoder_backward>::call));
}

}  // namespace s2s
