// The CPU kernels as a table of function pointers, filled once per instruction set and chosen at run time.
// They take raw pointers and own neither memory nor threads; csrc/cpu/<op>.cpp does both.
#pragma once

#include <cstdint>

// Whether the compiler knows the matrix unit, and how to ask the system for its registers.
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define S2S_AMX
#endif

namespace s2s::cpu {

// Numbers of 16 bits as they lie in memory.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// Valid source positions of one row of the batch and one head, all of them or a tile: keys and values lie in memory as
// E and are computed in T. Scores, and gradients of scores, are compact here: one number a valid position, in order.
// Nothing is read at any other position.
template <class T, class E = T>
struct Source {
  const E* keys;  // key(s) = keys + s * key_stride, A wide
  int64_t key_stride;
  const E* values;  // value(s) = values + s * value_stride, D wide
  int64_t value_stride;
  const int64_t* positions;  // ascending
  int64_t count;
  const T* v;
  int64_t attention, width;  // A, D
};

// Queries of one row of the batch and one head.
template <class T>
struct Queries {
  const T* queries;  // query(t) = queries + t * stride, A wide
  int64_t stride;
  int64_t count;
};

// Source positions that are summed one after the other; what there are more of is summed in double. A float's sum of a
// hundred thousand would lose three digits.
constexpr int64_t kTogether = 512;

template <class T>
using CellForward = void (*)(const T* gates_x, const T* gates_h, const T* h_previous, const T* c_previous, T* h, T* c,
                             T* saved, int64_t hidden, int64_t begin, int64_t end);
template <class T>
using CellBackward = void (*)(const T* saved, const T* h_previous, const T* c_previous, const T* c, T* grad_h,
                              T* grad_c, T* grad_gates, T* grad_gates_h, int64_t hidden, int64_t begin, int64_t end);

template <class E, class T = E>
using Gemm = void (*)(int64_t m, int64_t n, int64_t k, const E* a, int64_t lda, const E* packed, T* c, int64_t ldc,
                      const T* bias, bool accumulate);

template <class T>
struct Kernels {
  int64_t panel;  // columns of a packed panel

  // C (m, n) = A (m, k) B (k, n) + bias, or += ; B as panels of `panel` columns, k rows each. The second reads A
  // from its transpose (k, m).
  Gemm<T> gemm, gemm_transposed;
  // B[k][n] = from[k * k_stride + n * n_stride] into one panel; columns past n are zero.
  void (*pack)(const T* from, int64_t k_stride, int64_t n_stride, int64_t k, int64_t n, T* panel);

  // Columns begin..end of one row of a cell. saved: the activated gates that backward wants (null: not wanted).
  // GRU: gates (3H) r z n; saved (4H) r z n and W_hn h; may be the same memory as gates_x.
  // LSTM: gates (4H) i f g o; saved (4H).
  CellForward<T> gru_forward, lstm_forward;
  // grad_h and grad_c come in as the gradients of h and c and go out as the direct part of those of h_previous and
  // c_previous. grad_gates (4H): r z n h_n, or i f g o. grad_gates_h: the gradient of gates_h, for the next product.
  CellBackward<T> gru_backward, lstm_backward;
  void (*tanh_rows)(T* x, int64_t n);                     // x = tanh(x)
  void (*tanh_backward)(T* grad, const T* y, int64_t n);  // grad *= 1 - y^2
  void (*add)(T* to, const T* from, int64_t n);           // to += from
  // Rounded to 16 bits.
  void (*to_bfloat16)(const T* from, int64_t n, BFloat16* to);
  void (*to_float16)(const T* from, int64_t n, Float16* to);

  // In place: compact scores (+ bias at their positions, where given) to compact weights.
  void (*softmax)(T* scores, const int64_t* positions, int64_t count, const T* bias);
  // In place: from compact to one number a position, zero where invalid; and the way back.
  void (*scatter)(T* row, const int64_t* positions, int64_t count, int64_t size);
  void (*gather)(const T* row, const int64_t* positions, int64_t count, T* compact);
  // The mean of compact gradients by the weights at their positions.
  double (*weighted_mean)(const T* weights, const int64_t* positions, int64_t count, const T* grad);
  // In place: compact gradients of the weights to those of the scores.
  void (*softmax_backward)(const T* weights, const int64_t* positions, int64_t count, T* grad);

  // Logits of some words, each `stride` after the last, of `rows` rows, a multiple of `panel`: each row's maximum of
  // the logits so far, the sum of exp(logit - maximum) and, where wanted, that of the logits. `bias`: the words', or
  // null.
  void (*add_words)(const T* logits, int64_t stride, const T* bias, int64_t words, int64_t rows, T* maximum, T* sum,
                    T* total);
  // In place, of any number of rows: logits to exp(logit - maximum) * scale - less. grad_bias (words) += its sums.
  void (*words_backward)(T* logits, int64_t stride, const T* bias, int64_t words, int64_t rows, const T* maximum,
                         const T* scale, T less, T* grad_bias);

  // C (m, n) = A (m, k) W^T + bias, W (n, k) as it lies in memory: for few rows, which do not pay for packing.
  void (*dot)(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* w, T* c, int64_t ldc, const T* bias);
  // The same with W in bfloat16; null for float64.
  void (*dot_bfloat16)(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const uint16_t* w, T* c, int64_t ldc,
                       const T* bias);
  // A block of a row's logits: the running maximum (-inf at first) and the sum of exp(x - maximum) (0 at first).
  void (*add_exponentials)(const T* x, int64_t n, T* maximum, T* sum);
  // The `capacity` largest of the row so far, largest first, of equal ones the lower id; x[i] has the id first + i,
  // and ids must not fall from call to call. Neither NaN nor -inf is kept.
  void (*keep_largest)(const T* x, int64_t n, int64_t first, T* values, int64_t* ids, int64_t* count, int64_t capacity);
};

// Those that read keys and values.
template <class T, class E = T>
struct SourceKernels {
  // B[k][n] = from[index[k] * stride + n] (by_k) or from[index[n] * stride + k] into one panel, as `pack` does.
  void (*pack_indexed)(const E* from, int64_t stride, const int64_t* index, bool by_k, int64_t k, int64_t n, T* panel);

  // v . tanh(q + k) of one query (A).
  void (*scores)(const Source<T, E>& source, const T* query, T* scores);
  void (*context)(const Source<T, E>& source, const T* weights, T* context);
  // scores_grad (compact) += values . grad_context
  void (*values_dot)(const Source<T, E>& source, const T* grad_context, T* grad_weights);
  // out (m, n) = a (m) times b (n)
  void (*outer)(const T* a, const T* b, int64_t m, int64_t n, E* out);
  // Of one query: grad_query (A) and grad_keys of every valid position (key_stride apart), overwritten, and grad_v (A),
  // added to. The second adds to grad_keys too.
  void (*one_query_backward)(const Source<T, E>& source, const T* query, const T* grad_scores, T* grad_query,
                             E* grad_keys, T* grad_v);
  void (*add_one_query_backward)(const Source<T, E>& source, const T* query, const T* grad_scores, T* grad_query,
                                 T* grad_keys, T* grad_v);
  // Of many queries: grad_queries (count, A), added to, grad_keys, overwritten, and grad_v, added to. grad_scores: rows
  // score_stride apart. scratch: 2A.
  void (*queries_backward)(const Source<T, E>& source, const Queries<T>& queries, const T* grad_scores,
                           int64_t score_stride, T* grad_queries, E* grad_keys, T* grad_v, T* scratch);
};

// T is float or double, E is T or, with float, BFloat16 or Float16.
struct Tables : Kernels<float>,
                Kernels<double>,
                SourceKernels<float>,
                SourceKernels<double>,
                SourceKernels<float, BFloat16>,
                SourceKernels<float, Float16> {};

// Those for this CPU (or for the lower S2S_CPU_CAPABILITY = baseline, avx2, avx512, avx512_bf16, amx_bf16).
const Tables& tables();
template <class T>
const Kernels<T>& kernels() {
  return tables();
}
template <class T, class E = T>
const SourceKernels<T, E>& source_kernels() {
  return tables();
}

// Two bfloat16 that stand one after the other along k, the first in the low half.
using Pair = uint32_t;

// Products of bfloat16 with float32 sums, at twice the rate of float32's and, on a matrix unit, at ten times. k, lda
// and the panels count pairs.
struct PairKernels {
  Gemm<Pair, float> gemm, gemm_transposed;
  // As that of Kernels.
  void (*pack)(const Pair* from, int64_t k_stride, int64_t n_stride, int64_t k, int64_t n, Pair* panel);
  // Rows of k numbers to rows of (k + 1) / 2 pairs; an odd one is paired with zero.
  void (*pair_rows)(int64_t m, int64_t k, const float* a, int64_t lda, Pair* out);
  // Rows 2p and 2p + 1 of k rows of n numbers to one row of n pairs, `stride` apart.
  void (*pair_columns)(int64_t k, int64_t n, const float* a, int64_t lda, Pair* out, int64_t stride);
  // The same of rows of bfloat16.
  void (*interleave)(int64_t k, int64_t n, const BFloat16* a, int64_t lda, Pair* out, int64_t stride);
};

// Null where the CPU has none. Panels are as wide as those of kernels<float>().
const PairKernels* pair_kernels();

// The name of what was chosen.
const char* cpu_capability();

}  // namespace s2s::cpu
