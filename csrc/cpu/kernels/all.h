// Included once per instruction set, inside namespace s2s::cpu::S2S_ISA. Everything here is local to the including
// file: a function shared between instruction sets could be linked in the version that this CPU cannot run.
#include "attention.h"
#include "cells.h"
#include "gemm.h"
#include "loss.h"
#include "search.h"

template <class T>
constexpr Kernels<T> table() {
  return {.panel = kPanel<T>,
          .gemm = gemm<T, false>,
          .gemm_transposed = gemm<T, true>,
          .pack = pack<T>,
          .pack_indexed = pack_indexed<T>,
          .gru_forward = gru_forward<T>,
          .lstm_forward = lstm_forward<T>,
          .gru_backward = gru_backward<T>,
          .lstm_backward = lstm_backward<T>,
          .tanh_rows = tanh_rows<T>,
          .tanh_backward = tanh_backward<T>,
          .add = add<T>,
          .scores = scores<T>,
          .softmax = softmax<T>,
          .context = context<T>,
          .scatter = scatter<T>,
          .gather = gather<T>,
          .values_dot = values_dot<T>,
          .outer = outer<T>,
          .softmax_backward = softmax_backward<T>,
          .one_query_backward = one_query_backward<T, false>,
          .add_one_query_backward = one_query_backward<T, true>,
          .queries_backward = queries_backward<T>,
          .add_words = add_words<T>,
          .words_backward = words_backward<T>,
          .dot = dot<T, T>,
          .dot_bfloat16 = dot_bfloat16<T>(),
          .add_exponentials = add_exponentials<T>,
          .keep_largest = keep_largest<T>};
}

extern const Kernels<float> float_kernels = table<float>();
extern const Kernels<double> double_kernels = table<double>();
