// Both directions of gru and lstm on the CPU: a thread each, where two threads would share the few rows of a batch and
// wait for each other in every step.
#include "../bidirectional.h"

#include <ATen/ThreadLocalState.h>

#include "parallel.h"
#include "recurrence.h"

namespace s2s::cpu {

namespace {

// Elements of a weight that stays in a core's second-level cache. Of a larger one two threads have a half each there,
// and one thread would read it from further away at every step.
constexpr int64_t kNearWeight = 1 << 18;

// f(0) and f(1).
template <class F>
std::array<Tensors, 2> each_direction(const OptionalTensors& inputs, const BothDirections& both, const F& f) {
  OptionalTensor x = inputs.get(0), weight = inputs.get(both.states + 2);  // weight_hh
  bool apart = given(x) && x->dim() == 3 && x->size(0) < 2 * kRowsOfAGroup && given(weight) &&
               weight->numel() <= kNearWeight &&
               threads_for(2.0 * x->size(0) * x->size(1) * static_cast<double>(weight->numel())) == 2;
  if (!apart) return {f(0), f(1)};
  std::array<Tensors, 2> made;
  at::ThreadLocalState caller;
  run_parts(2, 0, [&](int64_t direction) {
    at::ThreadLocalStateGuard guard(caller);
    made[direction] = f(direction);
  });
  return made;
}

Tensors forward(int64_t gates, const OptionalTensors& inputs, const OptionalTensor& lengths, bool save) {
  BothDirections both(gates);
  auto split = both.inputs(inputs);
  return both.forward(each_direction(
      inputs, both, [&](int64_t d) { return recurrence_forward(gates, split[d], lengths, d == 1, save); }));
}

Tensors backward(int64_t gates, const OptionalTensors& grads, const OptionalTensors& inputs,
                 const OptionalTensor& lengths, at::TensorList outputs, const c10::List<bool>& needs) {
  BothDirections both(gates);
  auto split = both.backward(grads, inputs, outputs, needs);
  auto one = [&](int64_t d) {
    return recurrence_backward(gates, split[d].grads, split[d].inputs, lengths, d == 1, split[d].outputs,
                               split[d].needs);
  };
  return both.gradients(each_direction(inputs, both, one), needs.get(0));
}

}  // namespace

Tensors gru_bidirectional_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&,
                                  bool, bool save) {
  return forward(kGru, inputs, lengths, save);
}

Tensors gru_bidirectional_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                   const OptionalTensor& lengths, const OptionalTensor&, bool, at::TensorList outputs,
                                   const c10::List<bool>& needs) {
  return backward(kGru, grads, inputs, lengths, outputs, needs);
}

Tensors lstm_bidirectional_forward(const OptionalTensors& inputs, const OptionalTensor& lengths, const OptionalTensor&,
                                   bool, bool save) {
  return forward(kLstm, inputs, lengths, save);
}

Tensors lstm_bidirectional_backward(const OptionalTensors& grads, const OptionalTensors& inputs,
                                    const OptionalTensor& lengths, const OptionalTensor&, bool, at::TensorList outputs,
                                    const c10::List<bool>& needs) {
  return backward(kLstm, grads, inputs, lengths, outputs, needs);
}

}  // namespace s2s::cpu
