// Which kept boxes can suppress a candidate at all: a condition on centres and sizes, and the two-level index over
// kept boxes that finds those which meet it.
//
// Let iou > t. The overlap of the two intervals on either axis, iw / uw, is no less, so with widths w and v
//   |s' - s| and |d' - d| <= |x1' - x1| + |x2' - x2| = uw - iw < (1 - t) uw < (1 / t - 1) min(w, v)
// where s = x1 + x2 is twice the centre and d = x2 - x1 the width: a kept box lies in a window of four coordinates
// around the candidate. The margins below are larger than all roundings, but for areas that are subnormal and
// coordinates that overflow when added: such a candidate gets a window without bounds. A box without a positive width,
// height and finite area has an intersection of 0 or an IoU of 0 or NaN with every box: it neither suppresses nor is
// suppressed.
#pragma once
#include "nms/rule.h"

namespace pyrcnn::nms {

// (s, d) of both axes.
template <typename C> struct Place {
  C x, y, w, h;
};
template <typename C> PYRCNN_HD Place<C> place_of(const Box<C>& b) {
  return {b.x1 + b.x2, b.y1 + b.y2, b.x2 - b.x1, b.y2 - b.y1};
}
template <typename P> PYRCNN_HD auto interacts(const Place<P>& p) {
  return (p.w > P{}) & (p.h > P{}) & (p.w * p.h < P{} + INFINITY);
}

// The window: the suppressors of a candidate at `place` are between low and high in every coordinate. That of a box
// which does not interact is empty.
template <typename C> struct Reach {
  C share, rounding;  // of the candidate's size; of its coordinates
  PYRCNN_HD explicit Reach(C threshold)
      : share(higher((C(1) + C(1e-5)) / threshold - C(1), C(1e-5))), rounding(sizeof(C) == 4 ? C(1e-6) : C(1e-14)) {}
  // P is C or a pack of it.
  template <typename P> PYRCNN_HD void window(const Place<P>& place, Place<P>& low, Place<P>& high) const {
    const P x = higher(place.x, -place.x), y = higher(place.y, -place.y), infinity = P{} + C(INFINITY);
    const auto modest = (place.w * place.h > P{} + C(1e-30)) & (x < P{} + C(1e37)) & (y < P{} + C(1e37));
    const P across = (place.w * share + (x + place.w) * rounding) * C(1.001);
    const P down = (place.h * share + (y + place.h) * rounding) * C(1.001);
    const auto matters = interacts(place);
    const P least = matters ? -infinity : infinity;
    const auto bounded = matters & modest;
    low = {bounded ? place.x - across : least, bounded ? place.y - down : least, bounded ? place.w - across : least,
           bounded ? place.h - down : least};
    high = {bounded ? place.x + across : -least, bounded ? place.y + down : -least, bounded ? place.w + across : -least,
            bounded ? place.h + down : -least};
  }
};

// What the kept boxes of each node span: the lowest and highest x, y, w, h, eight rows of `nodes` numbers.
template <typename C> struct Spans {
  C* rows;
  int64_t nodes;  // a multiple of kTile
  PYRCNN_HD C* low(int coordinate) const { return rows + 2 * coordinate * nodes; }
  PYRCNN_HD C* high(int coordinate) const { return rows + (2 * coordinate + 1) * nodes; }
};

// Candidates that are near and alike are given neighbouring positions: position / kTile is the leaf that takes the box
// if it is kept, and `leaves_per_branch` leaves in a row are a branch. Any positions give the same result.
template <typename C> struct Index {
  const uint32_t* positions;  // of candidate i
  int64_t leaves_per_branch;  // a multiple of kTile
  Tile<C>* leaves;
  uint32_t* sizes;  // kept boxes of each leaf, 0 at first
  Spans<C> of_leaves, of_branches;
};

}  // namespace pyrcnn::nms
