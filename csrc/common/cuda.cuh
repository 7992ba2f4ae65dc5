// Launching on the current stream of a tensor's device.
#pragma once
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "quotient.h"
#include "tensor.h"

namespace pyrcnn {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 65535;

// Selects the device of a tensor and reads its current stream.
struct OnDevice {
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
  explicit OnDevice(const Tensor& t) : guard(t.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }
};

template <typename K> __global__ void each_kernel(int64_t n, K kernel) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < n; i += int64_t(gridDim.x) * blockDim.x)
    kernel(i);
}

// kernel(i) for every i in [0, n): a grid-stride loop, so any n fits.
template <typename K> void each(const OnDevice& on, int64_t n, K kernel) {
  if (n == 0) return;
  const int64_t blocks = ceil_div(n, kThreads);
  each_kernel<<<dim3(unsigned(blocks < kMaxBlocks ? blocks : kMaxBlocks)), kThreads, 0, on.stream>>>(n, kernel);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace pyrcnn
