// Greedy suppression: the rule, and a screen that spares most pairs of boxes the division.
//
// The rule: boxes are visited by descending score; equal scores go by lower index. A box is kept unless a box that was
// kept before suppresses it. A kept box suppresses another if their IoU is greater than the threshold. The IoU is
// computed in C (float, or double for double boxes) without fused multiply-adds, and the threshold is rounded to C. An
// IoU equal to the threshold does not suppress. Nor does NaN, which comes from 0 / 0 or from a NaN in a box.
#pragma once
#include "common/math/box.h"

namespace pyrcnn::nms {

// C is a number or a pack of numbers; for packs the result is a mask.
template <typename C>
PYRCNN_HD auto suppresses(const Box<C>& kept, const Box<C>& box, C kept_area, C area, C threshold) {
  return iou(kept, box, kept_area, area) > threshold;
}

// A test without division that every suppressing pair passes: inter / (a + b - inter) > t implies
// inter > a t' + b t' with t' = t / (1 + t). Most pairs fail it.
//
// bound() returns a box's summand on the right side, lowered by more than all rounding errors of both sides, including
// those of subnormal numbers. The implication holds for areas that are not negative. A box with a negative area gets
// -inf, so that its pairs always pass. A NaN area fails the screen and the rule. Thresholds outside [2^-10, 2^10] are
// not screened.
template <typename C> struct Screen {
  C factor;
  bool usable;
  PYRCNN_HD explicit Screen(C threshold)
      : factor(threshold / (C(1) + threshold) * (C(1) - C(sizeof(C) == 4 ? 8e-6 : 1e-13))),
        usable(threshold >= C(0.0009765625) && threshold <= C(1024)) {}
  // P is C or a pack of it.
  template <typename P> PYRCNN_HD P bound(P area) const {
    return area < P{} ? P{} - C(INFINITY) : area * factor - C(sizeof(C) == 4 ? 0x1p-120 : 0x1p-1000);
  }
  // The intersection, or a number that is not above zero where the boxes are apart.
  template <typename P> static PYRCNN_HD P overlap(const Box<P>& a, const Box<P>& b) {
    const P w = lower(a.x2, b.x2) - higher(a.x1, b.x1), h = lower(a.y2, b.y2) - higher(a.y1, b.y1);
    return higher(w, P{}) * h;
  }
};

// The rule for one pair of boxes: the screen first, then the division.
template <typename C> struct PairTest {
  Screen<C> screen;
  C threshold;
  PYRCNN_HD explicit PairTest(C threshold) : screen(threshold), threshold(threshold) {}
  PYRCNN_HD bool operator()(const Box<C>& kept, const Box<C>& box) const {
    const C kept_area = area(kept), box_area = area(box);
    if (screen.usable && !(Screen<C>::overlap(kept, box) > screen.bound(kept_area) + screen.bound(box_area)))
      return false;
    return suppresses(kept, box, kept_area, box_area, threshold);
  }
};

// A bundle: 16 boxes stored coordinate by coordinate, so that a few packs compare one box with all of them.
constexpr int kBundle = 16;
template <typename C> struct BoxBundle {
  C x1[kBundle], y1[kBundle], x2[kBundle], y2[kBundle], bound[kBundle];
};

PYRCNN_HD int64_t bundles_for(int64_t boxes) { return ceil_div(boxes, kBundle); }

// Boxes in the order in which they are visited: candidate i is row rows[i] of `boxes` [*, 4], or row i if rows is null.
template <typename T> struct Candidates {
  const T* boxes;
  const uint32_t* rows;
  int64_t count;
};

// Boxes of different groups never suppress each other. The kept boxes of group g are stored from
// bundles[first_bundle[g]] on, where there must be room for all its candidates. kept[g] counts them and is 0 at first.
// A group keeps at most `most` boxes.
struct Groups {
  const uint32_t* of;  // group of candidate i
  const int64_t* first_bundle;
  uint32_t* kept;
  uint32_t most = UINT32_MAX;
};

}  // namespace pyrcnn::nms
