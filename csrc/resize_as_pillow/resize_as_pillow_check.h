// The arguments of _resize_as_pillow, checked once for both devices.
#pragma once
#include "preprocess/preprocess_check.h"
#include "resize_as_pillow.h"

namespace pyrcnn::resize_as_pillow {

constexpr int64_t kMostSource = int64_t(1) << 31;  // elements: each is read, also of an expanded image

// run(pass) computes one pass on one device.
template <typename Run> Tensor forward(const Tensor& image, int64_t height, int64_t width, Run&& run) {
  check_sizes("image", image);
  check(image.dim() == 3 && image.size(0) == 3 && image.size(1) > 0 && image.size(2) > 0,
        "image must be [3, H, W] and not empty, got ", shape(image));
  check(image.numel() < kMostSource, "image must have fewer than 2^31 elements, got ", shape(image));
  check(height > 0 && width > 0, "size must be positive, got (", height, ", ", width, ")");
  const int64_t rows = image.size(1), columns = image.size(2);
  Tensor wide = new_result("size", image, {3, rows, width}, ScalarType::Byte);
  preprocess::dispatch_image(image, [&](auto type) {
    using S = typename decltype(type)::type;
    run(Pass<S>{data<S>(image), image.stride(0), image.stride(1), image.stride(2), mutable_data<uint8_t>(wide), rows,
                width, false, columns});
  });
  if (height == rows) return wide;
  Tensor result = new_result("size", image, {3, height, width}, ScalarType::Byte);
  run(Pass<uint8_t>{data<uint8_t>(wide), rows * width, width, 1, mutable_data<uint8_t>(result), height, width, true,
                    rows});
  return result;
}

// The operator on each device, which the first operator of exported programs calls too.
Tensor on_cpu(const Tensor& image, int64_t height, int64_t width);
Tensor on_cuda(const Tensor& image, int64_t height, int64_t width);

}  // namespace pyrcnn::resize_as_pillow
