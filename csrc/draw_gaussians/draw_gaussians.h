// draw_gaussians: CenterNet's target maps (Zhou et al. 2019, section 3). A class's map is the maximum over its objects
// of weight * exp(-d^2 / 2 sigma^2), where d is the distance to the cell that holds the object's centre.
#pragma once
#include "common/math/exp.h"
#include "common/math/hd.h"

namespace pyrcnn::draw_gaussians {

// Beyond this many sigmas the value is drawn as 0. It is below half an ulp of 1 there, so 1 - value is exactly 1 and a
// focal loss does not change. These are sqrt(2 ln 2^25) and sqrt(2 ln 2^54).
template <typename C> constexpr C kReach = sizeof(C) == 4 ? C(5.887) : C(8.652);

// The lowest scale. It is finite, because -inf * 0 would be NaN.
template <typename C> constexpr C kLowest = sizeof(C) == 4 ? C(-3e38) : C(-1e308);

template <typename C> struct Gaussian {
  int64_t y, x;                      // the cell of the centre
  C scale, weight;                   // value = weight * exp(scale * d^2)
  int64_t top, bottom, left, right;  // cells [top, bottom) x [left, right) are drawn
  PYRCNN_HD bool empty() const { return top >= bottom || left >= right; }
  PYRCNN_HD C along_y(int64_t row) const { return exp_of(scale * (C(row - y) * C(row - y))); }
  PYRCNN_HD C along_x(int64_t column) const { return exp_of(scale * (C(column - x) * C(column - x))); }
};

// The cell of a coordinate that is a whole number, clamped to 2^62.
template <typename C> PYRCNN_HD int64_t cell_of(C coordinate) {
  constexpr C kFar = C(int64_t(1) << 62);
  return int64_t(clamp(coordinate, -kFar, kFar));
}

// Computes the cells [from, to) within `reach` of `center` and in [0, size). C may round `size`.
template <typename C> PYRCNN_HD void span(C center, C reach, int64_t size, int64_t& from, int64_t& to) {
  const C low = higher(center - reach, C(0)), high = higher(center + reach, C(-1)), end = C(size);
  from = low < end ? lower(int64_t(::ceil(low)), size) : size;
  to = high < end ? lower(int64_t(::floor(high)) + 1, size) : size;
}

template <typename T> struct Objects {
  using C = compute_t<T>;
  const T* centers;        // [N, G, 2]: x, y
  const T* sigmas;         // [N, G]
  const int64_t* classes;  // [N, G]
  const T* weights;        // [N, G], or null for 1
  int64_t count, channels, height, width;

  // Object i of all N * G. If sigma or weight is not positive, or any number is NaN, nothing is drawn.
  PYRCNN_HD Gaussian<C> operator()(int64_t i) const {
    const C sigma = C(sigmas[i]), weight = weights == nullptr ? C(1) : C(weights[i]);
    Gaussian<C> g{};
    const C x = ::floor(C(centers[2 * i])), y = ::floor(C(centers[2 * i + 1]));
    g.scale = higher(C(-0.5) / (sigma * sigma), kLowest<C>), g.weight = weight;
    if (!(sigma > 0 && weight > 0 && x - x == 0 && y - y == 0)) return g;  // inf - inf is NaN
    g.y = cell_of(y), g.x = cell_of(x);
    span(y, kReach<C> * sigma, height, g.top, g.bottom);
    span(x, kReach<C> * sigma, width, g.left, g.right);
    return g;
  }
};

}  // namespace pyrcnn::draw_gaussians
