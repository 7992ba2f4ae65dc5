// The taps of a RoI: the pixels that it reads on each axis, and their weights. They are computed once per RoI and
// shared by all channels. Bilinear interpolation is separable, so a bin is the sum of weight_y * weight_x * pixel over
// its taps in y and x.
#pragma once
#include "common/simd/block.h"
#include "roi_align.h"

namespace pyrcnn::roi_align {

template <typename C> struct Tap {
  int32_t pixel;
  C weight;
};

// Bin p reads taps[begin[p] .. begin[p + 1]), in ascending order of pixels, each pixel once.
template <typename C> struct AxisTaps {
  const int32_t* begin;
  const Tap<C>* taps;
};
template <typename C> struct Taps {
  int32_t bins_y, bins_x;
  AxisTaps<C> y, x;
  int32_t first_row, last_row;  // the RoI reads no others than [first_row, last_row)
};

// The most pixels that a bin reads.
template <typename C> PYRCNN_HD int64_t max_taps(const Axis<C>& a, int32_t size) {
  const int64_t by_samples = 2 * int64_t(a.samples);
  const C span = a.bin < C(0) ? -a.bin : a.bin;
  const int64_t by_span = span < C(size) ? int64_t(span) + 4 : size;
  const int64_t smaller = by_samples < by_span ? by_samples : by_span;
  return smaller < size ? smaller : size;
}

// Writes the taps of all bins, at most `capacity` = max_taps() per bin, and returns how many there are.
template <typename C>
PYRCNN_HD int32_t axis_taps(const Axis<C>& a, int32_t bins, int32_t size, int64_t capacity, int32_t* begin,
                            Tap<C>* taps) {
  int32_t count = 0;
  const C share = a.samples > 0 ? C(1) / C(a.samples) : C(0);
  for (int32_t p = 0; p < bins; ++p) {
    const int32_t start = begin[p] = count;
    const Range range = sample_range(a, p, size);
    for (int32_t k = range.first; k < range.last; ++k) {
      const int32_t i = a.bin < C(0) ? range.first + range.last - 1 - k : k;  // in ascending order of coordinates
      const AxisSample<C> s = axis_sample(sample_at(a, p, i), size);
      if (!s.inside) continue;
      const int32_t pixels[2] = {s.low, s.high};
      const C weights[2] = {s.weight_low * share, s.weight_high * share};
      for (int side = 0; side < 2; ++side) {
        if (weights[side] == C(0)) continue;  // skipped, because 0 * inf would be NaN
        int32_t at = count;
        while (at > start && taps[at - 1].pixel > pixels[side]) --at;
        if (at > start && taps[at - 1].pixel == pixels[side]) {
          taps[at - 1].weight += weights[side];
        } else if (count - start < capacity) {
          for (int32_t j = count++; j > at; --j) taps[j] = taps[j - 1];
          taps[at] = {pixels[side], weights[side]};
        }
      }
    }
  }
  begin[bins] = count;
  return count;
}

}  // namespace pyrcnn::roi_align
