// decode_boxes: deltas [..., 4] and anchors -> boxes [..., 4], and its gradient. This file has the arithmetic of one
// row and of one anchor, over which CPU and CUDA loop.
#pragma once
#include "common/math/box.h"
#include "common/math/pairing.h"

namespace pyrcnn::decode_boxes {

// Clips to [0, limit]. A NaN stays a NaN, because lower() and higher() return their second argument then.
template <typename C> PYRCNN_HD Span<C> clip_or_nan(const Span<C>& s, C limit) {
  const C zero{};
  return {lower(limit, higher(zero, s.low)), lower(limit, higher(zero, s.high))};
}

// T is the deltas' type, TA the anchors' and the boxes' (float with half deltas, else T).
template <typename T, typename TA> struct Kernel {
  using Anchor = TA;
  using C = compute_t<TA>;
  const T* deltas;
  const TA* anchors;
  TA* boxes;
  C weights[4];
  C cap;
  bool clipped;  // to height and width
  C height, width;
  Pairing pairing;
  PYRCNN_HD void operator()(int64_t i) const {
    const T* d = deltas + 4 * i;
    const TA* a = anchors + 4 * pairing.anchor_of(i);
    const Delta<C> delta{C(d[0]) / weights[0], C(d[1]) / weights[1], C(d[2]) / weights[2], C(d[3]) / weights[3]};
    Box<C> box = decode(Box<C>{C(a[0]), C(a[1]), C(a[2]), C(a[3])}, delta, cap);
    if (clipped) {
      const Span<C> x = clip_or_nan(Span<C>{box.x1, box.x2}, width), y = clip_or_nan(Span<C>{box.y1, box.y2}, height);
      box = {x.low, y.low, x.high, y.high};
    }
    TA* to = boxes + 4 * i;
    to[0] = TA(box.x1), to[1] = TA(box.y1), to[2] = TA(box.x2), to[3] = TA(box.y2);
  }
};

// One axis of the gradient. `low` and `high` are the gradients of x1 and x2 (or y1 and y2).
template <typename C> struct AxisGradient {
  C shift, size, low, high;
};
template <typename C> PYRCNN_HD AxisGradient<C> axis_gradient(C low, C high, C shift, C size, C extent, C cap) {
  const C scale = exp_of(size > cap ? cap : size), centre = low + high, half = C(0.5) * (high - low);
  const C to_extent = centre * (shift + C(0.5)) + half * scale;
  return {centre * extent, size > cap ? C(0) : half * scale * extent, centre - to_extent, to_extent};
}

// The gradients to all rows of one anchor, and to the anchor, which is a sum over its rows in a fixed order.
template <typename T, typename TA> struct Backward {
  using C = compute_t<TA>;
  const TA* grad;
  const T* deltas;
  const TA* anchors;
  T* to_deltas;
  TA* to_anchors;  // or nullptr
  C weights[4];
  C cap;
  Pairing pairing;
  PYRCNN_HD void operator()(int64_t anchor) const {
    const TA* a = anchors + 4 * anchor;
    const C w = C(a[2]) - C(a[0]), h = C(a[3]) - C(a[1]);
    C sum[4] = {};
    for (int64_t n = 0; n < pairing.batches(); ++n)
      for (int64_t r = 0; r < pairing.repeat; ++r) {
        const int64_t i = 4 * pairing.row_of(n, anchor, r);
        const T* d = deltas + i;
        const TA* g = grad + i;
        const AxisGradient<C> x = axis_gradient(C(g[0]), C(g[2]), C(d[0]) / weights[0], C(d[2]) / weights[2], w, cap);
        const AxisGradient<C> y = axis_gradient(C(g[1]), C(g[3]), C(d[1]) / weights[1], C(d[3]) / weights[3], h, cap);
        T* to = to_deltas + i;
        to[0] = T(x.shift / weights[0]), to[1] = T(y.shift / weights[1]);
        to[2] = T(x.size / weights[2]), to[3] = T(y.size / weights[3]);
        sum[0] += x.low, sum[1] += y.low, sum[2] += x.high, sum[3] += y.high;
      }
    if (to_anchors == nullptr) return;
    for (int j = 0; j < 4; ++j) to_anchors[4 * anchor + j] = TA(sum[j]);
  }
};

}  // namespace pyrcnn::decode_boxes
