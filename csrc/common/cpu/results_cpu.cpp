#include "results.h"

#include <dlfcn.h>

#include "memory.h"

namespace pyrcnn {
namespace {

// torch_from_blob of torch's stable C interface. It exists from torch 2.11 on and is looked up by name, because this
// library also runs on 2.10.
using FromBlob = AOTITorchError (*)(void* memory, int64_t dims, const int64_t* sizes, const int64_t* strides,
                                    int64_t offset, int32_t dtype, int32_t device_type, int32_t device_index,
                                    AtenTensorHandle* result, int32_t layout, const uint8_t* metadata,
                                    int64_t metadata_size, void (*deleter)(void* memory, void* context), void* context);
FromBlob from_blob() {
  static const FromBlob found = [] {
    void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    return reinterpret_cast<FromBlob>(torch ? dlsym(torch, "torch_from_blob") : nullptr);
  }();
  return found;
}

// The size of the types that results have; 0 for any other type.
int64_t element_bytes(ScalarType type) {
  switch (type) {
    case ScalarType::Double: return 8;
    case ScalarType::Float:
    case ScalarType::Int: return 4;
    case ScalarType::Half:
    case ScalarType::BFloat16:
    case ScalarType::Short: return 2;
    default: return 0;
  }
}

}  // namespace

Tensor empty_result(const char* name, const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w,
                    bool channels_last, std::optional<ScalarType> dtype) {
  const ScalarType type = dtype.value_or(like.scalar_type());
  const FromBlob make = from_blob();
  const int64_t bytes = element_bytes(type) * checked_product(name, {n, c, h, w});
  if (make == nullptr || bytes < kWorthKeeping) {
    Tensor result = new_4d(name, like, n, c, h, w, channels_last, dtype);
    if (bytes >= kWorthKeeping) ask_for_huge_pages(result.mutable_data_ptr(), bytes);
    return result;
  }
  constexpr int32_t kNoIndex = -1;  // the CPU is one device
  const int64_t sizes[] = {n, c, h, w}, nchw[] = {c * h * w, h * w, w, 1}, nhwc[] = {h * w * c, 1, w * c, c};
  const auto number = [](auto value) { return torch::stable::detail::to<int32_t>(torch::stable::detail::from(value)); };
  const int64_t* strides = channels_last ? nhwc : nchw;
  const auto release = [](void* memory, void* block_bytes) { give_back({memory, int64_t(uintptr_t(block_bytes))}); };
  return allocated(name, Extents(sizes, 4), [&] {
    const Block block = take_block(bytes);
    AtenTensorHandle handle;
    if (make(block.memory, 4, sizes, strides, 0, number(type), aoti_torch_device_type_cpu(), kNoIndex, &handle,
             aoti_torch_layout_strided(), nullptr, 0, release,
             reinterpret_cast<void*>(uintptr_t(block.bytes))) == AOTI_TORCH_SUCCESS)
      return Tensor(handle);
    give_back(block);
    return new_4d(name, like, n, c, h, w, channels_last, dtype);
  });
}

Tensor empty_result(const char* name, const Tensor& like, Extents sizes, ScalarType dtype) {
  check(can_multiply(sizes), name, " must give a result of fewer than 2^56 elements, got ", Printed{sizes});
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  // A small result does not need the detour over four dimensions.
  if (count < kWorthKeeping / 8) return new_result(name, like, sizes, dtype);
  return torch::stable::view(empty_result(name, like, 1, 1, 1, count, false, dtype), sizes);
}

}  // namespace pyrcnn
