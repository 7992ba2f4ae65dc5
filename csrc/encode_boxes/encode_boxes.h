// encode_boxes: boxes [..., 4] and anchors -> deltas [..., 4], and its gradient. This file has the arithmetic of one
// row and of one anchor, over which CPU and CUDA loop.
#pragma once
#include "common/math/box.h"
#include "common/math/pairing.h"

namespace pyrcnn::encode_boxes {

// T is the boxes' type, TA the anchors' and the deltas' (float with half boxes, else T).
template <typename T, typename TA> struct Kernel {
  using Anchor = TA;
  using C = compute_t<TA>;
  const T* boxes;
  const TA* anchors;
  TA* deltas;
  Delta<C> weights;
  Pairing pairing;
  PYRCNN_HD void operator()(int64_t i) const {
    const T* b = boxes + 4 * i;
    const TA* a = anchors + 4 * pairing.anchor_of(i);
    const Box<C> box{C(b[0]), C(b[1]), C(b[2]), C(b[3])}, anchor{C(a[0]), C(a[1]), C(a[2]), C(a[3])};
    const Delta<C> delta = encode(box, anchor, weights);
    TA* to = deltas + 4 * i;
    to[0] = TA(delta.x), to[1] = TA(delta.y), to[2] = TA(delta.w), to[3] = TA(delta.h);
  }
};

// One axis of the gradient. `shift` and `size` are the gradients of dx and dw (or dy and dh), multiplied by the
// weights. Box and anchor extend from *_low to *_high.
template <typename C> struct AxisGradient {
  C box_low, box_high, anchor_low, anchor_high;
};
template <typename C>
PYRCNN_HD AxisGradient<C> axis_gradient(C shift, C size, C box_low, C box_high, C anchor_low, C anchor_high) {
  const C extent = anchor_high - anchor_low, centre = C(0.5) * (box_low + box_high - anchor_low - anchor_high);
  const C to_centre = C(0.5) * shift / extent, to_box = size / (box_high - box_low);
  const C to_extent = -(shift * centre / extent + size) / extent;
  return {to_centre - to_box, to_centre + to_box, -to_centre - to_extent, to_extent - to_centre};
}

// The gradients to all rows of one anchor, and to the anchor, which is a sum over its rows in a fixed order.
template <typename T, typename TA> struct Backward {
  using C = compute_t<TA>;
  const TA* grad;
  const T* boxes;
  const TA* anchors;
  T* to_boxes;
  TA* to_anchors;  // or nullptr
  Delta<C> weights;
  Pairing pairing;
  PYRCNN_HD void operator()(int64_t anchor) const {
    const TA* a = anchors + 4 * anchor;
    C sum[4] = {};
    for (int64_t n = 0; n < pairing.batches(); ++n)
      for (int64_t r = 0; r < pairing.repeat; ++r) {
        const int64_t i = 4 * pairing.row_of(n, anchor, r);
        const T* b = boxes + i;
        const TA* g = grad + i;
        const AxisGradient<C> x =
            axis_gradient(weights.x * C(g[0]), weights.w * C(g[2]), C(b[0]), C(b[2]), C(a[0]), C(a[2]));
        const AxisGradient<C> y =
            axis_gradient(weights.y * C(g[1]), weights.h * C(g[3]), C(b[1]), C(b[3]), C(a[1]), C(a[3]));
        T* to = to_boxes + i;
        to[0] = T(x.box_low), to[1] = T(y.box_low), to[2] = T(x.box_high), to[3] = T(y.box_high);
        sum[0] += x.anchor_low, sum[1] += y.anchor_low, sum[2] += x.anchor_high, sum[3] += y.anchor_high;
      }
    if (to_anchors == nullptr) return;
    for (int j = 0; j < 4; ++j) to_anchors[4 * anchor + j] = TA(sum[j]);
  }
};

}  // namespace pyrcnn::encode_boxes
