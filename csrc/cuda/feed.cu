#include "../math/activation.h"
#include "device.cuh"
#include "feed.cuh"

namespace s2s::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) feed_forward_kernel(FeedForward a) {
  using A = Accumulate<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.batch * a.width) return;
  int64_t b = index / a.width, j = index % a.width, at = b * a.feed_stride + j + (a.step ? *a.step * a.width : 0);
  A sum = static_cast<A>(static_cast<const T*>(a.c_part)[b * a.c_part_stride + j]);
  if (a.h_part) sum += static_cast<A>(static_cast<const T*>(a.h_part)[b * a.h_part_stride + j]);
  A feed = math::tanh(sum);
  static_cast<T*>(a.feed)[at] = static_cast<T>(feed);
  if (a.exact_feed) static_cast<A*>(a.exact_feed)[at] = feed;
  if (a.feed_copy) static_cast<T*>(a.feed_copy)[index] = static_cast<T>(feed);
}

template <class T>
__global__ void __launch_bounds__(kThreads) feed_backward_kernel(FeedBackward a) {
  using A = Accumulate<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.batch * a.width) return;
  int64_t b = index / a.width, j = index % a.width, step = a.step ? *a.step : 0, on = step * a.width + j;
  A grad = 0, feed = static_cast<const A*>(a.feed)[b * a.feed_stride + on];
  if (a.grad) grad += static_cast<A>(static_cast<const T*>(a.grad)[b * a.grad_stride + j]);
  if (a.more_grad) grad += static_cast<A>(static_cast<const T*>(a.more_grad)[b * a.more_grad_stride + on]);
  T sum = static_cast<T>(grad * (A(1) - feed * feed));
  static_cast<T*>(a.grad_sum)[b * a.grad_sum_stride + step * a.sum_step + j] = sum;
  if (a.grad_sum_copy) static_cast<T*>(a.grad_sum_copy)[b * a.copy_stride + j] = sum;
}

}  // namespace

void feed_forward(const FeedForward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    launch(feed_forward_kernel<decltype(zero)>, blocks_of(a.batch * a.width), kThreads, stream, a);
  });
}

void feed_backward(const FeedBackward& a, Type type, cudaStream_t stream) {
  dispatch(type, [&](auto zero) {
    launch(feed_backward_kernel<decltype(zero)>, blocks_of(a.batch * a.width), kThreads, stream, a);
  });
}

}  // namespace s2s::cuda
