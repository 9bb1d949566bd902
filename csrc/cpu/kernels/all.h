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
          .gru_forward = gru_forward<T>,
          .lstm_forward = lstm_forward<T>,
          .gru_backward = gru_backward<T>,
          .lstm_backward = lstm_backward<T>,
          .tanh_rows = tanh_rows<T>,
          .tanh_backward = tanh_backward<T>,
          .add = add<T>,
          .to_bfloat16 = round_to<T, BFloat16>,
          .to_float16 = round_to<T, Float16>,
          .softmax = softmax<T>,
          .scatter = scatter<T>,
          .gather = gather<T>,
          .weighted_mean = weighted_mean<T>,
          .softmax_backward = softmax_backward<T>,
          .add_words = add_words<T>,
          .words_backward = words_backward<T>,
          .dot = dot<T, T>,
          .dot_bfloat16 = dot_bfloat16<T>(),
          .add_exponentials = add_exponentials<T>,
          .keep_largest = keep_largest<T>};
}

template <class T, class E>
constexpr SourceKernels<T, E> source_table() {
  return {.pack_indexed = pack_indexed<T, E>,
          .scores = scores<T, E>,
          .context = context<T, E>,
          .values_dot = values_dot<T, E>,
          .outer = outer<T, E>,
          .one_query_backward = one_query_backward<T, E, E, false>,
          .add_one_query_backward = one_query_backward<T, E, T, true>,
          .queries_backward = queries_backward<T, E>};
}

// constinit: run at start-up, its making could be code that this CPU has not got.
extern constinit const Tables all = {table<float>(),
                                     table<double>(),
                                     source_table<float, float>(),
                                     source_table<double, double>(),
                                     source_table<float, BFloat16>(),
                                     source_table<float, Float16>()};
