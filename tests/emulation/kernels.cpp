// All kernels, compiled for the CPU.
#include "cuda.h"
// clang-format off
#include "../../csrc/cuda/additive_attention_backward.cu"
#include "../../csrc/cuda/additive_attention_forward.cu"
#include "../../csrc/cuda/beam_search_read.cu"
#include "../../csrc/cuda/beam_search_select.cu"
#include "../../csrc/cuda/beam_search_state.cu"
#include "../../csrc/cuda/cell.cu"
#include "../../csrc/cuda/feed.cu"
#include "../../csrc/cuda/persistent_attention/persistent_attention_backward.cu"
#include "../../csrc/cuda/persistent_attention/persistent_attention_forward.cu"
#include "../../csrc/cuda/persistent_backward.cu"
#include "../../csrc/cuda/persistent_forward.cu"
