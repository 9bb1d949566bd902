// Autograd of every op: what is saved, and which op makes the gradients. In C++ so that a step costs microseconds.
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "find_op.h"
#include "ops.h"

namespace s2s {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

OptionalTensor optional(const Tensor& x) { return x.defined() ? OptionalTensor(x) : std::nullopt; }
Tensor undefined_if_none(const OptionalTensor& x) { return x.value_or(Tensor()); }

// A gradient for autograd: undefined where it was not asked for.
Tensor if_needed(const Tensor& grad, bool need) { return need ? grad : Tensor(); }

// Stands around the call of an op that makes gradients: past its autograd, which is Python's (see
// s2s_kernels/ops/second_derivative.py), where none is being recorded. The saved tensors are unpacked before it:
// torch.utils.checkpoint computes them again then, with autograd.
struct Unrecorded {
  std::optional<at::AutoDispatchBelowADInplaceOrView> below;
  Unrecorded() {
    if (!at::GradMode::is_enabled()) below.emplace();
  }
};

// Where there is nothing to save, nothing would be differentiated forward either: refused, not silently zero.
void refuse_forward_mode(const char* name, const OptionalTensor& x, const char* public_name) {
  TORCH_CHECK_NOT_IMPLEMENTED(!x.has_value() || !x->defined() || !x->_fw_grad(0).defined(), "torch.ops.s2s_kernels.",
                              name, " has no forward-mode derivative; s2s_kernels.", public_name, " has");
}

struct AdditiveAttention : Function<AdditiveAttention> {
  static variable_list forward(AutogradContext* ctx, const Tensor& query, const Tensor& keys, const Tensor& values,
                               const Tensor& v, const OptionalTensor& lengths, const OptionalTensor& mask,
                               const OptionalTensor& bias) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [context, weights] = additive_attention(query, keys, values, v, lengths, mask, bias);
    ctx->save_for_backward({query, keys, values, v, weights, undefined_if_none(lengths), undefined_if_none(mask),
                            undefined_if_none(bias)});
    ctx->set_materialize_grads(false);
    return {context, weights};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static auto op = find_op<decltype(cpu::additive_attention_backward)>("additive_attention_backward");
    auto saved = ctx->get_saved_variables();
    Unrecorded calls;
    // lengths and mask, where given, come before bias in autograd's count.
    size_t bias_index = 4 + saved[5].defined() + saved[6].defined();
    Needs<5> needs;
    for (int i = 0; i < 4; i++) needs[i] = ctx->needs_input_grad(i);
    needs[4] = saved[7].defined() && ctx->needs_input_grad(bias_index);
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(7);
    auto [query, keys, values, v, bias] =
        op.call(optional(grads[0]), optional(grads[1]), saved[0], saved[1], saved[2], saved[3], saved[4],
                optional(saved[5]), optional(saved[6]), optional(saved[7]), needs);
    return {if_needed(query, needs[0]),
            if_needed(keys, needs[1]),
            if_needed(values, needs[2]),
            if_needed(v, needs[3]),
            Tensor(),
            Tensor(),
            if_needed(bias, needs[4])};
  }
};

Two additive_attention_autograd(const Tensor& query, const Tensor& keys, const Tensor& values, const Tensor& v,
                                const OptionalTensor& lengths, const OptionalTensor& mask, const OptionalTensor& bias) {
  auto out = AdditiveAttention::apply(query, keys, values, v, lengths, mask, bias);
  return {out[0], out[1]};
}

struct GruStep : Function<GruStep> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({gates_x, gates_h, h});
    return gru_step(gates_x, gates_h, h);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static auto op = find_op<decltype(cpu::gru_step_backward)>("gru_step_backward");
    auto saved = ctx->get_saved_variables();
    Unrecorded calls;
    auto [gates_x, gates_h, h] = op.call(grads[0], saved[0], saved[1], saved[2]);
    return {gates_x, gates_h, h};
  }
};

Tensor gru_step_autograd(const Tensor& gates_x, const Tensor& gates_h, const Tensor& h) {
  return GruStep::apply(gates_x, gates_h, h);
}

struct LstmStep : Function<LstmStep> {
  static variable_list forward(AutogradContext* ctx, const Tensor& gates_x, const Tensor& gates_h, const Tensor& c) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({gates_x, gates_h, c});
    ctx->set_materialize_grads(false);
    auto [h_next, c_next] = lstm_step(gates_x, gates_h, c);
    return {h_next, c_next};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static auto op = find_op<decltype(cpu::lstm_step_backward)>("lstm_step_backward");
    auto saved = ctx->get_saved_variables();
    Unrecorded calls;
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(3);
    auto [gates, c] = op.call(optional(grads[0]), optional(grads[1]), saved[0], saved[1], saved[2]);
    return {gates, gates, c};
  }
};

Two lstm_step_autograd(const Tensor& gates_x, const Tensor& gates_h, const Tensor& c) {
  auto out = LstmStep::apply(gates_x, gates_h, c);
  return {out[0], out[1]};
}

// What has the forward-mode derivative of each.
constexpr const char* kPublicNames[] = {"gru", "lstm", "attention_gru", "attention_lstm", "nn.GRU", "nn.LSTM"};

// gru, lstm, attention_gru, attention_lstm and the bidirectional ops: their halves have one signature.
template <int which>
struct Recurrence : Function<Recurrence<which>> {
  // `present` are the inputs that were given: the ones that autograd sees.
  static variable_list forward(AutogradContext* ctx, at::TensorList present, const OptionalTensors& inputs,
                               const OptionalTensor& lengths, const OptionalTensor& mask, bool reverse, bool save) {
    static auto op = find_op<RecurrenceForward>(std::string(kRecurrences[which]) + "_forward");
    at::AutoDispatchBelowADInplaceOrView below;
    variable_list outputs = op.call(inputs, lengths, mask, reverse, save);
    variable_list saved, internal(outputs.begin() + public_outputs(which, inputs.size()), outputs.end());
    for (const OptionalTensor& x : inputs) saved.push_back(undefined_if_none(x));
    saved.push_back(undefined_if_none(lengths));
    saved.push_back(undefined_if_none(mask));
    saved.insert(saved.end(), outputs.begin() + kept_outputs(which), outputs.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["inputs"] = static_cast<int64_t>(inputs.size());
    ctx->saved_data["reverse"] = reverse;
    ctx->mark_non_differentiable(internal);
    ctx->set_materialize_grads(false);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static auto op = find_op<RecurrenceBackward>(std::string(kRecurrences[which]) + "_backward");
    auto saved = ctx->get_saved_variables();
    Unrecorded calls;
    size_t count = ctx->saved_data["inputs"].toInt();
    OptionalTensors inputs, public_grads;
    c10::List<bool> needs;
    size_t present = 0;
    for (size_t i = 0; i < count; i++) {
      inputs.push_back(optional(saved[i]));
      needs.push_back(saved[i].defined() && ctx->needs_input_grad(present));
      present += saved[i].defined();
    }
    bool any = false;
    for (int i = 0; i < public_outputs(which, count); i++) {
      public_grads.push_back(optional(grads[i]));
      any |= grads[i].defined();
    }
    // One gradient a present input, then nothing for inputs, lengths, mask, reverse and save.
    variable_list result;
    Tensors made;
    if (any)
      made = op.call(public_grads, inputs, optional(saved[count]), optional(saved[count + 1]),
                     ctx->saved_data["reverse"].toBool(), at::TensorList(saved).slice(count + 2), needs);
    for (size_t i = 0; i < count; i++)
      if (saved[i].defined()) result.push_back(any && needs[i] ? made[i] : Tensor());
    result.resize(result.size() + 5);
    return result;
  }
};

template <int which>
Tensors recurrence_autograd(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor& mask,
                            bool reverse, bool save) {
  static auto op = find_op<RecurrenceForward>(std::string(kRecurrences[which]) + "_forward");
  if (!save) {
    for (const OptionalTensor& x : inputs) refuse_forward_mode(kRecurrences[which], x, kPublicNames[which]);
    at::AutoDispatchBelowADInplaceOrView below;
    return op.call(inputs, lengths, mask, reverse, save);
  }
  variable_list present;
  for (const OptionalTensor& x : inputs)
    if (x.has_value()) present.push_back(*x);
  return Recurrence<which>::apply(at::TensorList(present), inputs, lengths, mask, reverse, save);
}

struct LinearCrossEntropy : Function<LinearCrossEntropy> {
  static variable_list forward(AutogradContext* ctx, const Tensor& features, const Tensor& weight,
                               const OptionalTensor& bias, const Tensor& targets, double label_smoothing,
                               Needs<3> needs) {
    static auto op = find_op<decltype(cpu::linear_cross_entropy_forward)>("linear_cross_entropy_forward");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [loss, grad_features, grad_weight, grad_bias] =
        op.call(features, weight, bias, targets, label_smoothing, needs);
    ctx->save_for_backward({features, weight, undefined_if_none(bias), targets, grad_features, grad_weight, grad_bias});
    ctx->saved_data["label_smoothing"] = label_smoothing;
    ctx->mark_non_differentiable({grad_features, grad_weight, grad_bias});
    ctx->set_materialize_grads(false);
    return {loss, grad_features, grad_weight, grad_bias};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static auto op = find_op<decltype(cpu::linear_cross_entropy_backward)>("linear_cross_entropy_backward");
    auto saved = ctx->get_saved_variables();
    Unrecorded calls;
    variable_list result(6);
    if (!grads[0].defined()) return result;
    auto [features, weight, bias] =
        op.call(grads[0], saved[0], saved[1], optional(saved[2]), saved[3],
                ctx->saved_data["label_smoothing"].toDouble(), saved[4], saved[5], saved[6]);
    result[0] = if_needed(features, ctx->needs_input_grad(0));
    result[1] = if_needed(weight, ctx->needs_input_grad(1));
    if (saved[2].defined()) result[2] = if_needed(bias, ctx->needs_input_grad(2));
    return result;
  }
};

Four linear_cross_entropy_autograd(const Tensor& features, const Tensor& weight, const OptionalTensor& bias,
                                   const Tensor& targets, double label_smoothing, Needs<3> needs) {
  static auto op = find_op<decltype(cpu::linear_cross_entropy_forward)>("linear_cross_entropy_forward");
  if (!needs[0] && !needs[1] && !needs[2]) {
    for (const OptionalTensor& x : {OptionalTensor(features), OptionalTensor(weight), bias})
      refuse_forward_mode("linear_cross_entropy", x, "linear_cross_entropy");
    at::AutoDispatchBelowADInplaceOrView below;
    return op.call(features, weight, bias, targets, label_smoothing, needs);
  }
  auto out = LinearCrossEntropy::apply(features, weight, bias, targets, label_smoothing, needs);
  return {out[0], out[1], out[2], out[3]};
}

}  // namespace

TORCH_LIBRARY_IMPL(s2s_kernels, Autograd, m) {
  m.impl("additive_attention", TORCH_FN(additive_attention_autograd));
  m.impl("gru_step", TORCH_FN(gru_step_autograd));
  m.impl("lstm_step", TORCH_FN(lstm_step_autograd));
  m.impl("linear_cross_entropy_forward", TORCH_FN(linear_cross_entropy_autograd));
  m.impl("gru_forward", TORCH_FN(recurrence_autograd<0>));
  m.impl("lstm_forward", TORCH_FN(recurrence_autograd<1>));
  m.impl("attention_gru_forward", TORCH_FN(recurrence_autograd<2>));
  m.impl("attention_lstm_forward", TORCH_FN(recurrence_autograd<3>));
  m.impl("gru_bidirectional_forward", TORCH_FN(recurrence_autograd<4>));
  m.impl("lstm_bidirectional_forward", TORCH_FN(recurrence_autograd<5>));
}

}  // namespace s2s
