// Which boxes can suppress a box at all: a condition on centres and sizes that rules out most pairs.
//
// Let iou > t. The overlap of the two intervals on either axis, iw / uw, is no less, so with widths w and v
//   |s' - s| and |d' - d| <= |x1' - x1| + |x2' - x2| = uw - iw < (1 - t) uw < (1 / t - 1) min(w, v)
// where s = x1 + x2 is twice the centre and d = x2 - x1 the width. So a suppressor lies in a range of four coordinates
// around the box. Margins larger than all rounding errors widen the range; they do not cover areas that are subnormal
// nor coordinates that overflow when added, so such a box gets an unbounded range. A box without a positive width,
// height and finite area has an intersection of 0, or an IoU of 0 or NaN, with every box: it neither suppresses nor is
// suppressed.
#pragma once
#include "nms/rule.h"

namespace pyrcnn::nms {

// A box as a point of four coordinates: twice the centre (x, y) and the size (w, h).
template <typename C> struct CentreSize {
  C x, y, w, h;
};
template <typename C> PYRCNN_HD CentreSize<C> centre_size_of(const Box<C>& b) {
  return {b.x1 + b.x2, b.y1 + b.y2, b.x2 - b.x1, b.y2 - b.y1};
}
// Can the box suppress or be suppressed?
template <typename P> PYRCNN_HD auto interacts(const CentreSize<P>& p) {
  return (p.w > P{}) & (p.h > P{}) & (p.w * p.h < P{} + INFINITY);
}

template <typename C> struct Reach {
  C share, rounding;  // how far a range reaches: a share of the box's size, and a share of its coordinates
  PYRCNN_HD explicit Reach(C threshold)
      : share(higher((C(1) + C(1e-5)) / threshold - C(1), C(1e-5))), rounding(sizeof(C) == 4 ? C(1e-6) : C(1e-14)) {}
  // The suppressors of the box `p` lie between `low` and `high` in every coordinate. The range of a box that does not
  // interact is empty. P is C or a pack of it.
  template <typename P> PYRCNN_HD void range(const CentreSize<P>& p, CentreSize<P>& low, CentreSize<P>& high) const {
    const P x = higher(p.x, -p.x), y = higher(p.y, -p.y), infinity = P{} + C(INFINITY);
    const auto modest = (p.w * p.h > P{} + C(1e-30)) & (x < P{} + C(1e37)) & (y < P{} + C(1e37));
    const P across = (p.w * share + (x + p.w) * rounding) * C(1.001);
    const P down = (p.h * share + (y + p.h) * rounding) * C(1.001);
    const auto matters = interacts(p);
    const P least = matters ? -infinity : infinity;
    const auto bounded = matters & modest;
    low = {bounded ? p.x - across : least, bounded ? p.y - down : least, bounded ? p.w - across : least,
           bounded ? p.h - down : least};
    high = {bounded ? p.x + across : -least, bounded ? p.y + down : -least, bounded ? p.w + across : -least,
            bounded ? p.h + down : -least};
  }
};

}  // namespace pyrcnn::nms
