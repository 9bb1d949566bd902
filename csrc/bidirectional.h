// gru_bidirectional and lstm_bidirectional are two calls of gru or lstm, the second in reverse: what the halves of each
// are handed, and what becomes of the results. A backend makes the two calls in the way that it can.
#pragma once

#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include <array>

#include "arguments.h"

namespace s2s {

struct BothDirections {
  int64_t gates;
  size_t states;  // of a cell
  size_t own;     // inputs that a direction has of its own: states and cell

  explicit BothDirections(int64_t gates_) : gates(gates_), states(gates_ == kLstm ? 2 : 1), own(states + 4) {}

  std::array<OptionalTensors, 2> inputs(const OptionalTensors& list) const {
    check_size("inputs", list.size(), 1 + 2 * own);
    OptionalTensor h0 = list.get(1), h0_reverse = list.get(1 + own);
    TORCH_CHECK_VALUE(!given(h0) || !given(h0_reverse) || h0->sizes() == h0_reverse->sizes(),  // else told by who reads
                      "h0_reverse has shape ", h0_reverse->sizes(), ", expected ", h0->sizes());
    std::array<OptionalTensors, 2> made;
    for (size_t d = 0; d < 2; d++) {
      made[d].push_back(list.get(0));
      for (size_t i = 0; i < own; i++) made[d].push_back(list.get(1 + d * own + i));
    }
    return made;
  }

  // found: all that the forward halves returned.
  Tensors forward(const std::array<Tensors, 2>& found) const {
    Tensors result = {at::cat({found[0][0], found[1][0]}, 2)};
    for (size_t i = 1; i <= states; i++) result.push_back(at::stack({found[0][i], found[1][i]}));
    for (const Tensors& one : found) result.insert(result.end(), one.begin(), one.end());
    return result;
  }

  struct Backward {
    OptionalTensors grads, inputs;
    at::TensorList outputs;
    c10::List<bool> needs;
  };
  // outputs: what forward returned behind the public ones.
  std::array<Backward, 2> backward(const OptionalTensors& grads, const OptionalTensors& list, at::TensorList outputs,
                                   const c10::List<bool>& needs) const {
    size_t each = 2 + 2 * states;
    check_size("grads", grads.size(), 1 + states);
    check_size("outputs", outputs.size(), 2 * each);
    check_size("needs", needs.size(), 1 + 2 * own);
    auto split = inputs(list);
    std::array<Backward, 2> made;
    for (size_t d = 0; d < 2; d++) {
      made[d].inputs = split[d], made[d].outputs = outputs.slice(d * each, each);
      for (size_t i = 0; i < grads.size(); i++) {
        OptionalTensor grad = grads.get(i);
        if (given(grad)) grad = of_direction(*grad, i, d);
        made[d].grads.push_back(grad);
      }
      made[d].needs.push_back(needs.get(0));
      for (size_t i = 0; i < own; i++) made[d].needs.push_back(needs.get(1 + d * own + i));
    }
    return made;
  }

  // found: all that the backward halves returned, of which the gradients of x are one.
  Tensors gradients(const std::array<Tensors, 2>& found, bool need_x) const {
    Tensors result = {need_x ? at::add(found[0][0], found[1][0]) : found[0][0]};
    for (const Tensors& one : found) result.insert(result.end(), one.begin() + 1, one.end());
    return result;
  }

 private:
  // Of the gradient of public output i; what else may be wrong with its shape is told by who reads it.
  static Tensor of_direction(const Tensor& grad, size_t i, size_t direction) {
    const char* name = i == 0 ? "output" : i == 1 ? "h_n" : "c_n";
    bool fits = grad.dim() == 3 && (i == 0 ? grad.size(2) % 2 == 0 : grad.size(0) == 2);
    TORCH_CHECK_VALUE(fits, "the gradient of ", name, " has shape ", grad.sizes(), ", expected ",
                      i == 0 ? "(B, T, 2H)" : "(2, B, H)");
    int64_t hidden = grad.size(2) / 2;
    return i == 0 ? grad.narrow(2, direction * hidden, hidden) : grad.select(0, direction);
  }
  static void check_size(const char* name, size_t size, size_t expected) {
    TORCH_CHECK_VALUE(size == expected, name, " has ", size, " elements, expected ", expected);
  }
};

}  // namespace s2s
