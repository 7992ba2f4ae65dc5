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
#include "nms.h"

namespace pyrcnn::nms {

// (s, d) of both axes.
template <typename C> struct Place {
  C x, y, w, h;
};
template <typename C> PYRCNN_HD Place<C> place_of(const Box<C>& b) {
  return {b.x1 + b.x2, b.y1 + b.y2, b.x2 - b.x1, b.y2 - b.y1};
}
template <typename C> PYRCNN_HD bool interacts(const Place<C>& p) {
  return p.w > C{} && p.h > C{} && p.w * p.h < C(INFINITY);
}

// The window: the suppressors of a candidate at `place` are between low and high in every coordinate.
template <typename C> struct Reach {
  C share, rounding;  // of the candidate's size; of its coordinates
  PYRCNN_HD explicit Reach(C threshold)
      : share(higher((C(1) + C(1e-5)) / threshold - C(1), C(1e-5))), rounding(sizeof(C) == 4 ? C(1e-6) : C(1e-14)) {}
  PYRCNN_HD void window(const Place<C>& place, Place<C>& low, Place<C>& high) const {
    constexpr C kTiny = C(1e-30), kHuge = C(1e37);
    const C x = higher(place.x, -place.x), y = higher(place.y, -place.y), infinity = C(INFINITY);
    low = {-infinity, -infinity, -infinity, -infinity}, high = {infinity, infinity, infinity, infinity};
    if (!(place.w * place.h > kTiny && x < kHuge && y < kHuge)) return;
    const C across = (share * place.w + (x + place.w) * rounding) * C(1.001);
    const C down = (share * place.h + (y + place.h) * rounding) * C(1.001);
    low = {place.x - across, place.y - down, place.w - across, place.h - down};
    high = {place.x + across, place.y + down, place.w + across, place.h + down};
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
