// draw_gaussians: CenterNet's target maps (Zhou et al. 2019, section 3): per class, the maximum over objects of
// weight * exp(-d^2 / 2 sigma^2), d being the distance to the cell that holds the object's centre.
#pragma once
#include "common/math/exp.h"
#include "common/math/hd.h"

namespace pyrcnn::draw_gaussians {

// Beyond this many sigmas the value is below half an ulp of 1 - value: 1 - value is exactly 1 there, so that a focal
// loss cannot see it, and it is drawn as 0. sqrt(2 ln 2^25) and sqrt(2 ln 2^54).
template <typename C> constexpr C kReach = sizeof(C) == 4 ? C(5.887) : C(8.652);

template <typename C> constexpr C kLowest = sizeof(C) == 4 ? C(-3e38) : C(-1e308);  // times 0 it is 0, as -inf is not

template <typename C> struct Gaussian {
  C y, x, scale, weight;             // the cell of the centre; value = weight * exp(scale * d^2)
  int64_t top, bottom, left, right;  // cells where it is drawn, the ends excluded; empty if there is nothing to draw
  PYRCNN_HD bool empty() const { return top >= bottom || left >= right; }
  PYRCNN_HD C along_y(int64_t row) const { return exp_of(scale * ((C(row) - y) * (C(row) - y))); }
  PYRCNN_HD C along_x(int64_t column) const { return exp_of(scale * ((C(column) - x) * (C(column) - x))); }
};

// Whole cells [from, to) that lie within `reach` of `center` and in [0, size).
template <typename C> PYRCNN_HD void span(C center, C reach, int64_t size, int64_t& from, int64_t& to) {
  const C low = higher(center - reach, C(0)), high = lower(center + reach, C(size - 1));
  const bool some = low <= high;
  from = some ? int64_t(::ceil(low)) : 0;
  to = some ? int64_t(::floor(high)) + 1 : 0;
}

template <typename T> struct Objects {
  using C = compute_t<T>;
  const T* centers;        // [N, G, 2]: x, y
  const T* sigmas;         // [N, G]
  const int64_t* classes;  // [N, G]
  const T* weights;        // [N, G], or null for 1
  int64_t count, channels, height, width;

  // Object i of all N * G. A sigma or weight that is not positive, or anything NaN, draws nothing.
  PYRCNN_HD Gaussian<C> operator()(int64_t i) const {
    const C sigma = C(sigmas[i]), weight = weights == nullptr ? C(1) : C(weights[i]);
    Gaussian<C> g{};
    g.x = ::floor(C(centers[2 * i])), g.y = ::floor(C(centers[2 * i + 1]));
    g.scale = higher(C(-0.5) / (sigma * sigma), kLowest<C>), g.weight = weight;
    if (!(sigma > 0 && weight > 0 && g.x - g.x == 0 && g.y - g.y == 0)) return g;  // not finite: inf - inf is NaN
    span(g.y, kReach<C> * sigma, height, g.top, g.bottom);
    span(g.x, kReach<C> * sigma, width, g.left, g.right);
    return g;
  }
};

}  // namespace pyrcnn::draw_gaussians
