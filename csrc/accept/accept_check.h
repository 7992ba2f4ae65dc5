// The first operator of an exported program. It refuses tensors that the compiled code behind it cannot take, which has
// no checks of its own, and copies the others into the memory format and dtype that this code was compiled for.
#pragma once
#include <string>
#include <tuple>

#include "preprocess/preprocess_check.h"
#include "resize_as_pillow/resize_as_pillow_check.h"
#include "resized_size.h"

namespace pyrcnn::accept {

using Integers = HeaderOnlyArrayRef<int64_t>;

// What a program was exported for. A size in `shape` of -1 may be any.
struct Wanted {
  Integers shape;
  int64_t multiple;  // must divide a height and width of any size
  const std::string& device;
};

inline void check_input(const char* name, const Tensor& t, const Wanted& w) {
  check_sizes(name, t);
  check(w.shape.size() == 4, "shape must be 4 integers, got ", w.shape.size());
  check(w.multiple > 0, "multiple must be positive, got ", w.multiple);
  bool fits = t.dim() == 4;
  for (int64_t d = 0; fits && d < 4; ++d) {
    const bool divided = d < 2 || t.size(d) % w.multiple == 0;
    fits = w.shape[d] < 0 ? t.size(d) > 0 && divided : t.size(d) == w.shape[d];
  }
  if (!fits) {
    std::ostringstream text;
    const char* letters[] = {"N", "C", "H", "W"};
    for (int64_t d = 0; d < 4; ++d) {
      text << (d ? ", " : "[");
      w.shape[d] < 0 ? text << letters[d] : text << w.shape[d];
    }
    text << "]";
    if (w.multiple > 1 && (w.shape[2] < 0 || w.shape[3] < 0)) text << " with H and W multiples of " << w.multiple;
    check(false, name, " must be ", text.str(), ", for which this program was exported, got ", shape(t));
  }
  check(w.device == (t.is_cuda() ? "cuda" : "cpu"), name, " must be on ", w.device,
        ", for which this program was exported, got ", device(t));
}

// A copy, because a program may write to what its operators return.
inline Tensor copy_as(const char* name, const Tensor& t, ScalarType dtype, bool channels_last = false) {
  Tensor copy = channels_last ? new_4d(name, t, t.size(0), t.size(1), t.size(2), t.size(3), true, dtype)
                              : new_result(name, t, t.sizes(), dtype);
  torch::stable::copy_(copy, t);
  return copy;
}

inline std::tuple<Tensor, Tensor> accept_pixels(const Tensor& pixels, const Tensor& sizes, const Wanted& wanted,
                                                ScalarType dtype, bool channels_last) {
  check_input("pixels", pixels, wanted);
  dispatch_floating(pixels, "pixels", [](auto) {});
  check_beside("pixels", pixels, "sizes", sizes);
  check(sizes.dim() == 2 && sizes.size(0) == pixels.size(0) && sizes.size(1) == 2, "sizes must be [", pixels.size(0),
        ", 2], (height, width) of each image, got ", shape(sizes));
  check(sizes.scalar_type() == ScalarType::Long || sizes.scalar_type() == ScalarType::Int,
        "sizes must be int64 or int32, got ", torch::headeronly::toString(sizes.scalar_type()));
  return {copy_as("pixels", pixels, dtype, channels_last), copy_as("sizes", sizes, ScalarType::Long)};
}

constexpr int64_t kMostSide = int64_t(1) << 31;

// How images are resized: "square" resizes the longer side and pads to a square, the others the shorter side.
struct Resize {
  const std::string& rule;
  int64_t shorter, longer, multiple;

  bool square() const { return rule == "square"; }
  bool as_pillow() const { return rule == "detectron2"; }
  Size operator()(Size old) const {
    if (square()) return keep_aspect(old, longer);
    if (rule == "torchvision") return shorter_side(old, shorter, longer);
    if (rule == "paper" || as_pillow()) return shorter_side_rounded(old, shorter, longer);
    check(rule == "none", "resize must be square, torchvision, detectron2, paper or none, got ", rule);
    return old;
  }
  Size padded(Size size) const {
    if (square()) return {longer, longer};
    const auto side = [&](int64_t n) { return (n + multiple - 1) / multiple * multiple; };
    return {side(size.height), side(size.width)};
  }
};

// Writes the height and width of the resized images and their ratio to the old ones, for each image. No image differs.
struct Fill {
  int64_t* sizes;
  float* scales;
  int64_t size[2];
  float scale[2];
  PYRCNN_HD void operator()(int64_t i) const { sizes[i] = size[i % 2], scales[i] = scale[i % 2]; }
};

// On one device, run(images, options) is preprocess, pillow(image, height, width) is _resize_as_pillow, and
// each(count, kernel) loops.
template <typename Run, typename Pillow, typename Each>
std::tuple<Tensor, Tensor, Tensor> accept_images(const Tensor& images, const Wanted& wanted, const Resize& resize,
                                                 preprocess::Options options, Run&& run, Pillow&& pillow, Each&& each) {
  check_input("images", images, wanted);
  check(images.size(1) == 3, "images must be [N, 3, H, W], got ", shape(images));
  for (const int64_t side : {resize.shorter, resize.longer, resize.multiple})
    check(side > 0 && side < kMostSide, "shorter, longer and multiple must be from 1 to 2^31, got ", resize.shorter,
          ", ", resize.longer, " and ", resize.multiple);
  const int64_t count = images.size(0);
  const Size old{images.size(2), images.size(3)}, size = resize(old), padded = resize.padded(size);
  const std::vector<int64_t> heights(count, size.height), widths(count, size.width);
  std::vector<Tensor> each_image;
  for (int64_t i = 0; i < count; ++i) {
    const Tensor image = torch::stable::select(images, 0, i);
    each_image.push_back(resize.as_pillow() ? pillow(image, size.height, size.width) : image);
  }
  options.heights = heights, options.widths = widths;
  options.height = padded.height, options.width = padded.width;
  options.legacy = resize.square(), options.pad_normalized = !resize.square();
  Tensor pixels = run(each_image, options);
  Tensor sizes = new_result("images", images, {count, 2}, ScalarType::Long);
  Tensor scales = new_result("images", images, {count, 2}, ScalarType::Float);
  const double ratio[] = {double(size.height) / double(old.height), double(size.width) / double(old.width)};
  each(2 * count, Fill{mutable_data<int64_t>(sizes),
                       mutable_data<float>(scales),
                       {size.height, size.width},
                       {float(ratio[0]), float(ratio[1])}});
  return {pixels, sizes, scales};
}

}  // namespace pyrcnn::accept
