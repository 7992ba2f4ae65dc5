// Launches kernels on the current stream of a tensor's device.
#pragma once
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "common/math/quotient.h"
#include "common/tensor.h"

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

// Launches kernel(arguments...) with `threads` threads per block.
template <typename... P, typename... A>
void launch(const OnDevice& on, void (*kernel)(P...), dim3 grid, int threads, const A&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = dim3(unsigned(threads)), config.stream = on.stream;
  STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
}

// Sets `bytes` bytes to `value`. Does nothing for 0 bytes, because an empty tensor has no address.
inline void set_bytes(const OnDevice& on, void* to, int value, int64_t bytes) {
  if (bytes > 0) STD_CUDA_CHECK(cudaMemsetAsync(to, value, size_t(bytes), on.stream));
}

template <typename K> __global__ void each_kernel(int64_t n, K kernel) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < n; i += int64_t(gridDim.x) * blockDim.x)
    kernel(i);
}

// Calls kernel(i) for every i in [0, n) in a grid-stride loop, so n may be any number.
template <typename K> void each(const OnDevice& on, int64_t n, K kernel) {
  if (n == 0) return;
  const int64_t blocks = ceil_div(n, kThreads);
  launch(on, &each_kernel<K>, unsigned(lower(blocks, kMaxBlocks)), kThreads, n, kernel);
}

}  // namespace pyrcnn
