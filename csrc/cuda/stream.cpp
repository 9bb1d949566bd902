// The only file that includes torch's CUDA headers.
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <map>
#include <memory>
#include <mutex>
#include <string_view>

#include "capture.h"
#include "persistent_host.h"
#include "replay.h"

namespace s2s::cuda {

namespace {

bool is_capturing() { return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None; }

// Where to capture what this stream is to run: not a stream of the pool each time, as cuBLAS keeps workspace for each.
c10::cuda::CUDAStream capturing_stream(c10::cuda::CUDAStream stream) {
  thread_local std::map<cudaStream_t, c10::cuda::CUDAStream> streams[C10_COMPILE_TIME_MAX_GPUS];
  auto& of_device = streams[stream.device_index()];
  auto found = of_device.find(stream.stream());
  if (found == of_device.end())
    found = of_device.emplace(stream.stream(), c10::cuda::getStreamFromPool(false, stream.device_index())).first;
  return found->second;
}

struct Event {
  cudaEvent_t event;
  Event() { C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming)); }
  Event(const Event&) = delete;
  ~Event() { C10_CUDA_CHECK_WARN(cudaEventDestroy(event)); }
};

}  // namespace

cudaStream_t current_stream(const Tensor& x) { return c10::cuda::getCurrentCUDAStream(x.get_device()).stream(); }

plan::Gpu gpu_of(const Tensor& x) {
  static std::mutex turn;
  static std::map<int, plan::Gpu> known;  // asking takes milliseconds
  std::lock_guard lock(turn);
  int device = x.get_device();
  auto found = known.find(device);
  if (found != known.end()) return found->second;
  cudaDeviceProp about;
  C10_CUDA_CHECK(cudaGetDeviceProperties(&about, device));
  bool divided = std::string_view(about.name).find("MIG") != std::string_view::npos;
  return known[device] = {about.major * 10 + about.minor, about.multiProcessorCount,
                          static_cast<int64_t>(about.sharedMemPerBlockOptin), divided || !about.cooperativeLaunch};
}

std::function<void()> captured(const Tensor& like, const std::function<void()>& step) {
  if (is_capturing()) return {};
  auto graph = std::make_shared<at::cuda::CUDAGraph>();
  c10::cuda::CUDAStreamGuard guard(capturing_stream(c10::cuda::getCurrentCUDAStream(like.get_device())));
  std::string why = capture_error([&] { graph->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal); }, step,
                                  [&] { graph->capture_end(); });
  if (!why.empty()) {
    (void)cudaGetLastError();  // said here, and no error of what is launched next
    TORCH_WARN_ONCE("s2s_kernels: a step could not be captured in a CUDA graph; all run a launch at a time: ", why);
    return {};
  }
  return [graph] { graph->replay(); };
}

std::function<bool()> reached_zero(const Tensor& count) {
  if (is_capturing()) return [] { return false; };
  Tensor copy = at::empty({1}, at::TensorOptions(count.scalar_type()).pinned_memory(true));
  auto event = std::make_shared<Event>();
  bool asked = false;
  return [=]() mutable {
    if (asked) {
      C10_CUDA_CHECK(cudaEventSynchronize(event->event));
      if (*copy.const_data_ptr<int32_t>() == 0) return true;
    }
    asked = true;
    copy.copy_(count, /*non_blocking=*/true);
    C10_CUDA_CHECK(cudaEventRecord(event->event, current_stream(count)));
    return false;
  };
}

}  // namespace s2s::cuda
