// The only file that includes torch's CUDA headers.
#include <c10/cuda/CUDAStream.h>

#include "glue.h"

namespace s2s::cuda {

cudaStream_t current_stream(const Tensor& x) { return c10::cuda::getCurrentCUDAStream(x.get_device()).stream(); }

}  // namespace s2s::cuda
