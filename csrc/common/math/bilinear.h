// Bilinear interpolation (He et al. 2017, RoIAlign), one axis at a time. Every operator that interpolates takes its
// border rule from here.
#pragma once
#include "hd.h"

namespace pyrcnn {

// A coordinate between the pixels `low` and `high`. A coordinate up to one pixel outside the map is moved onto the
// border pixel (weight 1, slope 0). One that is farther out, or NaN, is not `inside` and contributes zero.
template <typename C> struct AxisSample {
  bool inside;
  int32_t low, high;
  C weight_low, weight_high;
  C slope;  // d weight_high / d coordinate: 1 between pixels, 0 if the coordinate was moved
};

template <typename C> PYRCNN_HD AxisSample<C> axis_sample(C at, int32_t size) {
  if (!(size > 0 && at >= C(-1) && at <= C(size))) return {false, 0, 0, C(0), C(0), C(0)};
  const C moved = at > C(0) ? at : C(0);
  const int32_t low = int32_t(moved);
  if (low >= size - 1) return {true, size - 1, size - 1, C(1), C(0), C(0)};
  const C fraction = moved - C(low);
  return {true, low, low + 1, C(1) - fraction, fraction, at > C(0) ? C(1) : C(0)};
}

}  // namespace pyrcnn
