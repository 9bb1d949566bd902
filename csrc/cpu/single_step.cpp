#include "single_step.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "step.h"

namespace s2s::cpu {

namespace {

constexpr int64_t kMostRows = 256;

// to = a W^T (+ bias)
void linear(const Tensor& a, const Tensor& weight, const Tensor& bias, Tensor to) {
  if (bias.defined())
    at::addmm_out(to, bias, a, weight.t());
  else
    at::mm_out(to, a, weight.t());
}

}  // namespace

bool is_single_step(const RecurrenceArguments& in, const OptionalTensor& lengths) {
  return in.steps == 1 && in.batch <= kMostRows && !given(lengths) && !in.resets.defined() && !in_pairs(in.type);
}

void single_step_forward(int64_t gates, const RecurrenceArguments& in, const Tensor& saved, const Tensor& output,
                         const Tensor& h_n, const Tensor& c_n, const Tensor& cells, bool save) {
  int64_t hidden = in.hidden, wide = gates * hidden;
  Tensor of_h = in.empty({in.batch, wide});
  linear(in.x.select(1, 0), in.weight_ih, in.bias_ih, saved.select(1, 0).narrow(1, 0, wide));
  linear(in.h0, in.weight_hh, in.bias_hh, of_h);
  dispatch(in.x, [&](auto zero) {
    using T = decltype(zero);
    CellKernels<T> cell(gates);
    for_rows(in, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++) {
        T *row = data<T>(saved) + b * 4 * hidden, *h = data<T>(h_n) + b * hidden;
        T* c = gates == kLstm ? data<T>(c_n) + b * hidden : nullptr;
        const T* c0 = gates == kLstm ? data<T>(in.c0) + b * hidden : nullptr;
        cell.forward(row, data<T>(of_h) + b * wide, data<T>(in.h0) + b * hidden, c0, h, c, save ? row : nullptr, hidden,
                     0, hidden);
        std::copy_n(h, hidden, data<T>(output) + b * hidden);
        if (c && save) std::copy_n(c, hidden, data<T>(cells) + b * hidden);
      }
    });
  });
}

void single_step_backward(int64_t gates, const RecurrenceArguments& in, const Tensor& grad_output,
                          const Tensor& grad_h_n, const Tensor& grad_c_n, const Tensor& saved, const Tensor& cells,
                          const Tensor& grad_gates, const SingleStepGradients& to) {
  int64_t hidden = in.hidden, wide = gates * hidden;
  Tensor of_h = in.empty({in.batch, wide});
  dispatch(in.x, [&](auto zero) {
    using T = decltype(zero);
    CellKernels<T> cell(gates);
    for_rows(in, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++) {
        int64_t at = b * hidden;
        T *h = data<T>(to.h0) + at, *c = gates == kLstm ? data<T>(to.c0) + at : nullptr;
        copy_or_zero(h, grad_h_n, at, hidden);
        if (grad_output.defined()) kernels<T>().add(h, data<T>(grad_output) + at, hidden);
        if (c) copy_or_zero(c, grad_c_n, at, hidden);
        cell.backward(data<T>(saved) + 4 * at, data<T>(in.h0) + at, c ? data<T>(in.c0) + at : nullptr,
                      c ? data<T>(cells) + at : nullptr, h, c, data<T>(grad_gates) + b * grad_gates.stride(0),
                      data<T>(of_h) + b * wide, hidden, 0, hidden);
      }
    });
  });
  Tensor of_x = grad_gates.narrow(1, 0, wide), h0 = to.h0, x = in.x.select(1, 0);
  at::addmm_out(h0, h0, of_h, in.weight_hh);
  auto fill = [](Tensor grad, const Tensor& a, const Tensor& b) {
    if (grad.defined()) at::mm_out(grad, a, b);
  };
  if (to.x.defined()) fill(to.x.select(1, 0), of_x, in.weight_ih);
  fill(to.weight_ih, of_x.t(), x);
  fill(to.weight_hh, of_h.t(), in.h0);
}

}  // namespace s2s::cpu
