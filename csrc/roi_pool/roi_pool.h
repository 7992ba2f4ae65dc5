// RoIPool (Girshick 2015; Ren et al. 2015). It rounds a RoI to whole cells of the feature map, cuts it into bins that
// may overlap by a cell, and takes the maximum of each bin. This file has the geometry, for CPU and CUDA, in
// torchvision's arithmetic.
#pragma once
#include "common/math/hd.h"

namespace pyrcnn::roi_pool {

struct Shape {
  int64_t channels;
  int32_t height, width, bins_y, bins_x;
};

// The cells [first, last) of a bin on one axis.
struct Cells {
  int32_t first, last;
};

// One axis of a RoI: bin p covers the cells from start + floor(p * bin) to start + ceil((p + 1) * bin).
template <typename C> struct Axis {
  int64_t start;
  C bin;
};

// Rounds half away from zero, and clamps to 2^40 to avoid overflow. No feature map is that large.
template <typename C> PYRCNN_HD int64_t cell_of(C coordinate) {
  constexpr int64_t kFar = int64_t(1) << 40;
  const C limit = C(kFar), rounded = round(coordinate);
  return rounded > -limit ? (rounded < limit ? int64_t(rounded) : kFar) : -kFar;
}

template <typename C> PYRCNN_HD Axis<C> axis(C from, C to, C scale, int32_t bins) {
  const int64_t start = cell_of(from * scale), extent = cell_of(to * scale) - start + 1;
  return {start, C(extent > 1 ? extent : 1) / C(bins)};
}

// A RoI on the CPU: the cells of its bins on both axes, computed once and shared by all channels. A RoI that is not
// finite has bins without cells.
struct Bins {
  const Cells *rows, *columns;
};

// The argmax on the CPU, y * width + x, in 16 bits or in 32. Both are null if it is not wanted.
struct Places {
  int16_t* narrow;
  int32_t* wide;
  Places at(int64_t i) const { return {narrow ? narrow + i : nullptr, wide ? wide + i : nullptr}; }
};

template <typename C> PYRCNN_HD Cells cells(const Axis<C>& a, int32_t p, int32_t size) {
  const int64_t first = a.start + int64_t(floor(C(p) * a.bin)), last = a.start + int64_t(ceil(C(p + 1) * a.bin));
  return {int32_t(clamp(first, int64_t(0), int64_t(size))), int32_t(clamp(last, int64_t(0), int64_t(size)))};
}

// A NaN is the maximum, as in torch.nn.functional.max_pool2d. Of equal values the first is.
template <typename C> PYRCNN_HD bool replaces(C value, C best) { return value > best || value != value; }

template <typename C> struct Region {
  bool finite;    // false if a coordinate is NaN or infinite; the result is 0 then
  bool in_batch;  // false if the batch index is out of range
  int64_t image;
  Axis<C> y, x;
};

// `roi` is (batch index, x1, y1, x2, y2) in image pixels.
template <typename C>
PYRCNN_HD Region<C> region(const C* roi, int64_t images, C scale, int32_t bins_y, int32_t bins_x) {
  if (!(roi[0] >= C(0) && roi[0] < C(images))) return {};
  bool finite = true;
  for (int i = 1; i < 5; ++i) finite = finite && roi[i] * scale - roi[i] * scale == C(0);
  return {finite, true, int64_t(roi[0]), axis(roi[2], roi[4], scale, bins_y), axis(roi[1], roi[3], scale, bins_x)};
}

}  // namespace pyrcnn::roi_pool
