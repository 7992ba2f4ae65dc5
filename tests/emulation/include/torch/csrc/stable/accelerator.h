#pragma once
#include_next <torch/csrc/stable/accelerator.h>

// CPU tensors have no device to select and no stream.
namespace emulation {
struct DeviceGuard {
  explicit DeviceGuard(int32_t) {}
};
inline AOTITorchError current_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
}  // namespace emulation
namespace torch::stable::accelerator {
using EmulatedGuard = ::emulation::DeviceGuard;
}
#define DeviceGuard EmulatedGuard
#define aoti_torch_get_current_cuda_stream ::emulation::current_stream
