// preprocess: resizes, normalises and pads images of any size to one batch. The arithmetic is float32 throughout.
#pragma once
#include "common/math/hd.h"

namespace pyrcnn::preprocess {

// The two source rows (or columns) that an output row (or column) lies between.
struct Tap {
  int64_t low, high;
  float weight;  // of high
};

// legacy: source = i * (size / new_size), as in TensorFlow 1. Otherwise pixel centres are aligned, as in torch's
// bilinear interpolation with align_corners=False. Neither antialiases.
template <typename F> PYRCNN_HD Tap tap_in(int64_t i, int64_t size, int64_t new_size, bool legacy) {
  const F scale = F(size) / F(new_size);
  const F at = legacy ? F(i) * scale : higher((F(i) + F(0.5)) * scale - F(0.5), F(0));
  const int64_t low = lower(int64_t(at), size - 1);
  return {low, lower(low + 1, size - 1), float(at - F(low))};
}
PYRCNN_HD Tap tap(int64_t i, int64_t size, int64_t new_size, bool legacy) {
  constexpr int64_t kExact = int64_t(1) << 24;  // float does not hold all integers above
  return size > kExact || new_size > kExact ? tap_in<double>(i, size, new_size, legacy)
                                            : tap_in<float>(i, size, new_size, legacy);
}

// The columns of an output row.
struct Columns {
  const Tap* taps;
  int64_t count;
  // The first `paired` columns have at least four source pixels from `low` on. Their taps are also in these two arrays.
  int64_t paired;
  const int32_t* low;
  const float* weights;
};

// F is float or a pack of floats. x is interpolated first, then y.
template <typename F> PYRCNN_HD F blend(F from, F to, F weight) { return from + (to - from) * weight; }

// Normalises a channel's value: ((v / white_in * white_out) - mean) / deviation - shift.
struct Channel {
  float white_in, white_out, mean, deviation, shift;
  template <typename F> PYRCNN_HD F operator()(F v) const {
    return (v / white_in * white_out - mean) / deviation - shift;
  }
};

// An image [3, height, width] and the size that it is resized to.
struct Image {
  const void* pixels;
  int64_t step_c, step_y, step_x;  // in elements
  int64_t height, width, new_height, new_width;
  Channel channels[3];  // of the output
  float padding[3];     // normalised values
  bool bgr, legacy;
  PYRCNN_HD int64_t source(int channel) const { return (bgr ? 2 - channel : channel) * step_c; }
};

}  // namespace pyrcnn::preprocess
