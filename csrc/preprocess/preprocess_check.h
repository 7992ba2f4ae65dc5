// The arguments of preprocess, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "preprocess.h"

namespace pyrcnn::preprocess {

struct Options {
  HeaderOnlyArrayRef<int64_t> heights, widths;  // of each image after resizing
  int64_t height, width;                        // of the batch
  HeaderOnlyArrayRef<double> mean, deviation;
  double shift, white;
  bool legacy, bgr, pad_normalized;
  ScalarType dtype;
  bool channels_last;
};

inline Tensor check_and_allocate(const std::vector<Tensor>& images, const Options& o) {
  check(!images.empty(), "images must hold at least one image, got none");
  check_tensors("images[0]", images[0], "images", images);
  const int64_t count = int64_t(images.size());
  check(int64_t(o.heights.size()) == count && int64_t(o.widths.size()) == count, "sizes must be ", count,
        " pairs, one per image, got ", o.heights.size());
  check(o.height > 0 && o.width > 0, "size must be positive, got (", o.height, ", ", o.width, ")");
  check(o.mean.size() == 3, "mean must be 3 numbers, got ", o.mean.size());
  check(o.deviation.size() == 3, "std must be 3 numbers, got ", o.deviation.size());
  for (int64_t i = 0; i < count; ++i) {
    const Tensor& image = images[i];
    check(image.dim() == 3 && image.size(0) == 3, "images must be [3, H, W], got ", shape(image));
    check(image.size(1) > 0 && image.size(2) > 0, "images must not be empty, got ", shape(image));
    check(o.heights[i] > 0 && o.widths[i] > 0 && o.heights[i] <= o.height && o.widths[i] <= o.width,
          "sizes must be positive and fit into (", o.height, ", ", o.width, "), got (", o.heights[i], ", ", o.widths[i],
          ")");
  }
  return new_4d("size", images[0], count, 3, o.height, o.width, o.channels_last, o.dtype);
}

inline Image describe_image(const Tensor& image, int64_t i, const Options& o) {
  Image p{image.const_data_ptr(),
          image.stride(0),
          image.stride(1),
          image.stride(2),
          image.size(1),
          image.size(2),
          o.heights[i],
          o.widths[i],
          {},
          {},
          o.bgr,
          o.legacy};
  const bool bytes = image.scalar_type() == ScalarType::Byte;
  const float from = bytes ? 255.0f : 1.0f;
  for (int c = 0; c < 3; ++c) {
    p.channels[c] = {from, float(o.white), float(o.mean[c]), float(o.deviation[c]), float(o.shift)};
    if (from == float(o.white)) p.channels[c].white_in = p.channels[c].white_out = 1.0f;  // so that nothing is rounded
    p.padding[c] = o.pad_normalized ? 0.0f : p.channels[c](0.0f);
  }
  return p;
}

// Calls f(Type<S>{}) with S the storage type of an image, which may be uint8_t.
template <typename F> void dispatch_image(const Tensor& image, F&& f) {
  if (image.scalar_type() == ScalarType::Byte) return f(Type<uint8_t>{});
  check(image.scalar_type() == ScalarType::Float || image.scalar_type() == ScalarType::Double ||
            image.scalar_type() == ScalarType::Half || image.scalar_type() == ScalarType::BFloat16,
        "images must be uint8 or floating point, got ", torch::headeronly::toString(image.scalar_type()));
  dispatch_floating(image, "images", f);
}

// The operator on each device, which the first operator of exported programs calls too.
Tensor on_cpu(const std::vector<Tensor>& images, const Options& o);
Tensor on_cuda(const std::vector<Tensor>& images, const Options& o);

}  // namespace pyrcnn::preprocess
