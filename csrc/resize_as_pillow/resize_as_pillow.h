// _resize_as_pillow: Pillow's bilinear resize of 8-bit images, with the same bits. Pillow resizes along x, rounds to
// bytes, resizes along y and rounds again; newer versions take y first if the height shrinks much more than the width,
// which does not happen where the aspect ratio is kept. Weights are integers of 2^-22.
#pragma once
#include "common/math/quotient.h"

namespace pyrcnn::resize_as_pillow {

constexpr int kBits = 22;
constexpr int32_t kHalf = int32_t(1) << (kBits - 1);

// The old pixels that new pixel `i` of a side is computed from: `count` from `first` on. The weights are a triangle
// that is two new pixels wide, or two old ones when the image grows.
struct Filter {
  int64_t first, count;
  double centre, per_pixel, total;

  PYRCNN_HD Filter(int64_t i, int64_t size, int64_t new_size) {
    const double scale = double(size) / double(new_size), reach = higher(scale, 1.0);
    centre = (double(i) + 0.5) * scale, per_pixel = 1 / reach, total = 0;
    first = higher(int64_t(centre - reach + 0.5), int64_t(0));
    count = lower(int64_t(centre + reach + 0.5), size) - first;
    for (int64_t k = 0; k < count; ++k) total += triangle(k);
  }
  PYRCNN_HD double triangle(int64_t k) const {
    const double at = (double(first + k) - centre + 0.5) * per_pixel;
    return higher(1 - (at < 0 ? -at : at), 0.0);
  }
  PYRCNN_HD int32_t weight(int64_t k) const { return int32_t(triangle(k) / total * (1 << kBits) + 0.5); }
};

// A byte as it is, a number from 0 to 1 as the nearest byte; NaN as 0.
PYRCNN_HD int32_t to_byte(uint8_t value) { return value; }
template <typename S> PYRCNN_HD int32_t to_byte(S value) {
  const float scaled = float(value) * 255 + 0.5f;
  return scaled >= 255 ? 255 : scaled > 0 ? int32_t(scaled) : 0;
}

// One pixel of one pass, along y or along x. Steps are in elements.
template <typename S> struct Pass {
  const S* from;
  int64_t step_c, step_y, step_x;
  uint8_t* to;  // [3, height, width], contiguous
  int64_t height, width;
  bool along_y;
  int64_t size;  // the old height or width
  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t line = quotient(i, width), x = i - line * width, c = quotient(line, height), y = line - c * height;
    const Filter filter(along_y ? y : x, size, along_y ? height : width);
    const int64_t step = along_y ? step_y : step_x;
    const S* pixel = from + c * step_c + (along_y ? x * step_x : y * step_y) + filter.first * step;
    int32_t sum = kHalf;
    for (int64_t k = 0; k < filter.count; ++k) sum += to_byte(pixel[k * step]) * filter.weight(k);
    to[i] = uint8_t(sum >> kBits);
  }
};

}  // namespace pyrcnn::resize_as_pillow
