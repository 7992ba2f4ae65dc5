// Result tensors on the CPU, uninitialized.
#pragma once
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <initializer_list>

#include "common/allocate.h"

namespace pyrcnn {

// An [n, c, h, w] result, of the dtype of `like` unless said otherwise. A large one uses kept memory: see memory.h.
// `name` is the argument that an error names.
Tensor empty_result(const char* name, const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w,
                    bool channels_last, std::optional<ScalarType> dtype = std::nullopt);
// The same for any shape.
Tensor empty_result(const char* name, const Tensor& like, Extents sizes, ScalarType dtype);

// A small contiguous result at the least cost. new_empty is looked up by its name and takes its arguments in a list;
// that takes a microsecond, which matters to a small op.
inline Tensor fresh(std::initializer_list<int64_t> sizes, ScalarType dtype) {
  constexpr size_t kMost = 8;
  check(sizes.size() <= kMost, "sizes must be at most ", kMost, " numbers, got ", sizes.size());
  int64_t strides[kMost], step = 1;
  for (size_t i = sizes.size(); i-- > 0; step *= std::max<int64_t>(sizes.begin()[i], 1)) strides[i] = step;
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(int64_t(sizes.size()), sizes.begin(), strides,
                               torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)),
                               aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// The same on the device of `like`, with an error that names an argument: see allocated().
inline Tensor fresh_like(const char* name, const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return allocated(name, Extents(sizes.begin(), sizes.size()),
                   [&] { return like.is_cpu() ? fresh(sizes, dtype) : torch::stable::new_empty(like, sizes, dtype); });
}

}  // namespace pyrcnn
