// What the dispatcher runs on CUDA tensors.
#include <torch/library.h>

#include "ops.h"

namespace s2s::cuda {

TORCH_LIBRARY_IMPL(s2s_kernels, CUDA, m) {
  m.impl("additive_attention", TORCH_FN(additive_attention));
  m.impl("additive_attention_backward", TORCH_FN(additive_attention_backward));
  m.impl("gru_step", TORCH_FN(gru_step));
  m.impl("gru_step_backward", TORCH_FN(gru_step_backward));
  m.impl("lstm_step", TORCH_FN(lstm_step));
  m.impl("lstm_step_backward", TORCH_FN(lstm_step_backward));
}

}  // namespace s2s::cuda
