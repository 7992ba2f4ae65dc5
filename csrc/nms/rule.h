// Greedy suppression: the rule, and the quick test that spares most pairs the division.
//
// The rule. Boxes are visited by descending score, ties by lower index; a box is kept unless a kept box suppresses it,
// that is unless their IoU, computed in C = float (double for double boxes) without contraction, is greater than the
// threshold rounded to C. An IoU equal to the threshold does not suppress; neither does a NaN (0 / 0, or any NaN in a
// box).
#pragma once
#include "common/math/box.h"

namespace pyrcnn::nms {

// Any number type: C may be a pack, the result then is a mask.
template <typename C>
PYRCNN_HD auto suppresses(const Box<C>& kept, const Box<C>& box, C kept_area, C area, C threshold) {
  return iou(kept, box, kept_area, area) > threshold;
}

// inter / (a + b - inter) > t implies inter > a t' + b t' for t' = t / (1 + t), so pairs that fail the second test need
// no division. Screen gives each box its summand, lowered by more than all roundings on both sides amount to, including
// those of subnormal numbers. The implication needs areas that are not negative: a box turned inside out gets -inf, so
// its pairs are always divided. A NaN area fails both tests. Thresholds outside [2^-10, 2^10] are not screened.
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
  // The intersection as far as the screen needs it: below or equal to zero, where the true one is zero.
  template <typename P> static PYRCNN_HD P overlap(const Box<P>& a, const Box<P>& b) {
    const P w = lower(a.x2, b.x2) - higher(a.x1, b.x1), h = lower(a.y2, b.y2) - higher(a.y1, b.y1);
    return higher(w, P{}) * h;
  }
};

// The rule for one pair, with as few divisions as Screen allows.
template <typename C> struct Pair {
  Screen<C> screen;
  C threshold;
  PYRCNN_HD explicit Pair(C threshold) : screen(threshold), threshold(threshold) {}
  PYRCNN_HD bool operator()(const Box<C>& kept, const Box<C>& box) const {
    const C kept_area = area(kept), box_area = area(box);
    if (screen.usable && !(Screen<C>::overlap(kept, box) > screen.bound(kept_area) + screen.bound(box_area)))
      return false;
    return suppresses(kept, box, kept_area, box_area, threshold);
  }
};

// Kept boxes lie in tiles, coordinate by coordinate, so that a candidate meets 16 of them with a few packs.
constexpr int kTile = 16;
template <typename C> struct Tile {
  C x1[kTile], y1[kTile], x2[kTile], y2[kTile], bound[kTile];
};

PYRCNN_HD int64_t tiles_for(int64_t boxes) { return ceil_div(boxes, kTile); }

constexpr int64_t kFew = 256;  // boxes that are sorted by comparing each with each

// Boxes to be visited, in this order: rows[i] of `boxes` [*, 4] (x1, y1, x2, y2), or row i where rows is null.
template <typename T> struct Candidates {
  const T* boxes;
  const uint32_t* rows;
  int64_t count;
};

// Groups never suppress each other. Group g's kept boxes go to tiles[first_tile[g]...], which must hold all its
// candidates; kept[g] counts them and starts at 0. A group that has kept `most` takes no more.
struct Groups {
  const uint32_t* of;  // group of candidate i
  const int64_t* first_tile;
  uint32_t* kept;
  uint32_t most = UINT32_MAX;  // of one group
};

}  // namespace pyrcnn::nms
