// RoIAlign's geometry (He et al. 2017), for CPU and CUDA: the level and image that a RoI reads, and its samples.
#pragma once
#include "common/math/bilinear.h"

namespace pyrcnn::roi_align {

constexpr int kMaxLevels = 8;
constexpr int32_t kMaxSamples = 1 << 30;

struct Options {
  int32_t bins_y, bins_x;
  int32_t sampling_ratio;  // samples per bin and axis; <= 0: one per pixel of the bin
  bool aligned;            // half-pixel correction, and RoIs may be smaller than one pixel
};

// The feature maps of one call, [images, channels, height, width] each.
template <typename C> struct Pyramid {
  int32_t levels;
  int64_t images, channels;
  int32_t height[kMaxLevels], width[kMaxLevels];
  C scale[kMaxLevels];
  C area[kMaxLevels];  // RoIs of at least area[l] image pixels are on level l or a higher one; area[0] is unused
};

// The samples on one axis. Bin p has `samples` of them, evenly spaced in [start + p * bin, start + (p + 1) * bin].
template <typename C> struct Axis {
  C start, bin;
  int32_t samples;
  C d_bin;  // d bin / d (scaled end): 1 / bins, or 0 if the extent was raised to one pixel
};

template <typename C> PYRCNN_HD Axis<C> axis(C from, C to, C scale, int32_t bins, const Options& options) {
  const C offset = options.aligned ? C(0.5) : C(0);
  const C start = from * scale - offset;
  C extent = (to * scale - offset) - start;
  const bool raised = !options.aligned && extent < C(1);
  if (raised) extent = C(1);
  const C bin = extent / C(bins);
  int32_t samples = options.sampling_ratio;
  if (samples <= 0) {
    const C wanted = ceil(bin);
    samples = wanted >= C(1) ? (wanted < C(kMaxSamples) ? int32_t(wanted) : kMaxSamples) : 0;  // NaN: none
  }
  return {start, bin, samples, raised ? C(0) : C(1) / C(bins)};
}

// The coordinate of sample i of bin p.
template <typename C> PYRCNN_HD C sample_at(const Axis<C>& a, int32_t p, int32_t i) {
  return a.start + C(p) * a.bin + (C(i) + C(0.5)) * a.bin / C(a.samples);
}

// The derivative of that coordinate, divided by the scale, with respect to the RoI's end. The derivative with respect
// to its beginning is 1 minus this.
template <typename C> PYRCNN_HD C sample_fraction(const Axis<C>& a, int32_t p, int32_t i) {
  return (C(p) + (C(i) + C(0.5)) / C(a.samples)) * a.d_bin;
}

// The samples [first, last) of bin p that can touch a map of `size` pixels. It bounds the work for huge RoIs.
struct Range {
  int32_t first, last;
};
template <typename C> PYRCNN_HD Range sample_range(const Axis<C>& a, int32_t p, int32_t size) {
  constexpr int32_t kTestAll = 8;
  if (a.samples <= kTestAll) return {0, a.samples};
  const C base = a.start + C(p) * a.bin, step = a.bin / C(a.samples);
  if (!(base - base == C(0) && step - step == C(0))) return {0, 0};  // infinite or NaN, so no sample is inside
  if (step == C(0)) return {0, a.samples};
  const C one = (C(-1) - base) / step, other = (C(size) - base) / step;
  const C low = lower(one, other) - C(2), high = higher(one, other) + C(2);
  const C samples = C(a.samples);
  return {low > C(0) ? (low < samples ? int32_t(low) : a.samples) : 0,
          high < samples ? (high > C(0) ? int32_t(high) : 0) : a.samples};
}

// How far from a pixel the bin [begin, end] may be and still touch it: one pixel of interpolation, plus rounding.
template <typename C> PYRCNN_HD C touching_slack(C begin, C end) {
  const C far = (begin < C(0) ? -begin : begin) + (end < C(0) ? -end : end);
  return C(1.5) + far * C(1e-6);
}

// The weight of one pixel (row or column) of a map in the mean over bin p's samples on this axis. The deterministic
// backward pass needs it.
template <typename C> PYRCNN_HD C pixel_weight(const Axis<C>& a, int32_t p, int32_t size, int32_t pixel) {
  const C begin = a.start + C(p) * a.bin, end = begin + a.bin, slack = touching_slack(begin, end);
  const bool first = pixel == 0, last = pixel == size - 1;  // samples up to 1 outside the map read its border pixels
  if (lower(begin, end) > C(pixel) + slack && !last) return C(0);
  if (higher(begin, end) < C(pixel) - slack && !first) return C(0);
  const Range range = sample_range(a, p, size);
  C weight = 0;
  for (int32_t i = range.first; i < range.last; ++i) {
    const AxisSample<C> s = axis_sample(sample_at(a, p, i), size);
    if (!s.inside) continue;
    if (s.low == pixel) weight += s.weight_low;
    if (s.high == pixel) weight += s.weight_high;
  }
  return a.samples > 0 ? weight / C(a.samples) : C(0);
}

// Larger RoIs read coarser levels (Lin et al. 2017, eq. 1). Comparing areas gives the same level on every device, which
// a logarithm would not.
template <typename C> PYRCNN_HD int32_t level_of(const Pyramid<C>& pyramid, const C* roi) {
  const C area = (roi[3] - roi[1]) * (roi[4] - roi[2]);
  int32_t level = 0;
  for (int32_t l = 1; l < pyramid.levels; ++l) level += area >= pyramid.area[l];
  return level;
}

template <typename C> struct Region {
  bool valid;  // false if the batch index is out of range
  int32_t level;
  int64_t image;
  Axis<C> y, x;
};

// `roi` is (batch index, x1, y1, x2, y2) in image pixels.
template <typename C> PYRCNN_HD Region<C> region(const Pyramid<C>& pyramid, const Options& options, const C* roi) {
  if (!(roi[0] >= C(0) && roi[0] < C(pyramid.images))) return {};
  const int32_t level = level_of(pyramid, roi);
  const C scale = pyramid.scale[level];
  return {true, level, int64_t(roi[0]), axis(roi[2], roi[4], scale, options.bins_y, options),
          axis(roi[1], roi[3], scale, options.bins_x, options)};
}

}  // namespace pyrcnn::roi_align
