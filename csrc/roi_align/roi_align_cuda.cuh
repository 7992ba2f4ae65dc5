// Shared by the CUDA kernels of roi_align: their view of the feature maps, and the pixels of a bin.
#pragma once
#include "common/cuda/bins.cuh"
#include "roi_align_check.h"

namespace pyrcnn::roi_align {

// The feature maps of all levels. They are passed to the kernel by value, so that one launch serves all levels.
template <typename P, typename C> struct Maps {
  P* data[kMaxLevels];
  Pyramid<C> pyramid;
  Options options;
  const C* rois;  // [K, 5]

  __device__ Region<C> region_of(int64_t k) const { return region(pyramid, options, rois + 5 * k); }

  // The address of pixel (0, 0) of channel c.
  template <bool nhwc> __device__ P* plane(const Region<C>& r, int64_t c) const {
    const int64_t size = int64_t(pyramid.height[r.level]) * pyramid.width[r.level], n = r.image * pyramid.channels;
    return data[r.level] + (nhwc ? n * size + c : (n + c) * size);
  }
};

// Calls visit(offset in pixels, weight) for every pixel that bin (p, q) reads, once per sample.
template <typename C, typename F>
__device__ void visit_pixels(const Region<C>& r, int32_t p, int32_t q, int32_t height, int32_t width, F&& visit) {
  const Range rows = sample_range(r.y, p, height), columns = sample_range(r.x, q, width);
  const C share = C(1) / (C(r.y.samples) * C(r.x.samples));
  for (int32_t i = rows.first; i < rows.last; ++i) {
    const AxisSample<C> y = axis_sample(sample_at(r.y, p, i), height);
    if (!y.inside) continue;
    const int64_t low = int64_t(y.low) * width, high = int64_t(y.high) * width;
    for (int32_t j = columns.first; j < columns.last; ++j) {
      const AxisSample<C> x = axis_sample(sample_at(r.x, q, j), width);
      if (!x.inside) continue;
      // A weight of 0 is not visited, because 0 * inf would be NaN; the weights of `low` are never 0.
      const C left = x.weight_low * share, right = x.weight_high * share;
      visit(low + x.low, y.weight_low * left);
      if (right != C(0)) visit(low + x.high, y.weight_low * right);
      if (y.weight_high != C(0)) {
        visit(high + x.low, y.weight_high * left);
        if (right != C(0)) visit(high + x.high, y.weight_high * right);
      }
    }
  }
}

}  // namespace pyrcnn::roi_align
