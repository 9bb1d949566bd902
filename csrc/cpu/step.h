// What gru_step and lstm_step share: one step of a cell over the rows of a batch. A cell's kernels leave alone what the
// other has: a GRU's c, and an LSTM's h before the step.
#pragma once

#include "../checks.h"
#include "cell.h"

namespace s2s::cpu {

// f(begin, end) of rows that are worth a thread.
template <class Arguments, class F>
void for_rows(const Arguments& in, const F& f) {
  parallel_for(0, in.batch, 1 + 4096 / (in.hidden + 1), f);
}

// h, and an LSTM's c, after the step.
inline Two step_forward(int64_t gates, const StepArguments& in) {
  int64_t hidden = in.hidden, wide = gates * hidden;
  Tensor h = in.empty(hidden), c = in.empty(gates == kLstm ? hidden : 0);
  dispatch(in.state, [&](auto zero) {
    using T = decltype(zero);
    CellKernels<T> cell(gates);
    const T *x = data<T>(in.gates_x), *g = data<T>(in.gates_h), *before = data<T>(in.state);
    T *to_h = data<T>(h), *to_c = data<T>(c);
    for_rows(in, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++)
        cell.forward(x + b * wide, g + b * wide, before + b * hidden, before + b * hidden, to_h + b * hidden,
                     to_c ? to_c + b * hidden : nullptr, nullptr, hidden, 0, hidden);
    });
  });
  return {converted(h, in.type), converted(c, in.type)};
}

// Gradients of gates_x, gates_h (a GRU's; an LSTM's are equal) and the cell's own state.
inline Three step_backward(int64_t gates, const StepArguments& in, const OptionalTensor& grad_h,
                           const OptionalTensor& grad_c) {
  int64_t hidden = in.hidden, wide = gates * hidden;
  Tensor h = begin_as(grad_h, in.empty(hidden)), c = gates == kLstm ? begin_as(grad_c, in.empty(hidden)) : Tensor();
  Tensor of_x = in.empty(wide), of_h = in.empty(gates == kGru ? wide : 0);
  dispatch(in.state, [&](auto zero) {
    using T = decltype(zero);
    CellKernels<T> cell(gates);
    const T *x = data<T>(in.gates_x), *g = data<T>(in.gates_h), *state = data<T>(in.state);
    T *to_h = data<T>(h), *to_c = data<T>(c), *to_x = data<T>(of_x), *to_g = data<T>(of_h);
    for_rows(in, [&](int64_t begin, int64_t end) {
      Buffer<T> saved(4 * hidden), h_after(hidden), c_after(hidden), grad_x(4 * hidden), grad_g(4 * hidden);
      for (int64_t b = begin; b < end; b++) {
        const T* before = state + b * hidden;
        cell.forward(x + b * wide, g + b * wide, before, before, h_after.data(), c_after.data(), saved.data(), hidden,
                     0, hidden);
        cell.backward(saved.data(), before, before, c_after.data(), to_h + b * hidden,
                      to_c ? to_c + b * hidden : nullptr, grad_x.data(), to_g ? to_g + b * wide : grad_g.data(), hidden,
                      0, hidden);
        std::copy_n(grad_x.begin(), wide, to_x + b * wide);
      }
    });
  });
  return {converted(of_x, in.type), converted(of_h, in.type), converted(gates == kGru ? h : c, in.type)};
}

}  // namespace s2s::cpu
