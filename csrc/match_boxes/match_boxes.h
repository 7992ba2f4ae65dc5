// match_boxes: every anchor's best ground truth, and what the anchor is to be trained as. The rules, shared by CPU and
// CUDA.
#pragma once
#include "common/math/box.h"

namespace pyrcnn::match_boxes {

// What an anchor is trained as: 1 foreground, 0 background, -1 ignored. C and I are numbers, or packs of them.
template <typename I, typename C> PYRCNN_HD I state(C best_iou, C high, C low) {
  const I foreground = I{} + 1, background = I{}, ignored = I{} - 1;
  return best_iou >= high ? foreground : (best_iou < low ? background : ignored);
}

// Does a ground truth whose best IoU over all anchors is this one claim the anchors that reach it? One that no anchor
// overlaps claims none; and anchors at or above `high` are foreground without being claimed.
template <typename C> PYRCNN_HD bool claims(C best_iou, C high) { return best_iou > C(0) && !(best_iou >= high); }

// Whether more than that share of the anchor lies in a crowd.
template <typename C> PYRCNN_HD auto in_crowd(const Box<C>& anchor, C anchor_area, const Box<C>& crowd, C share) {
  return intersection(anchor, crowd) > share * anchor_area;
}

}  // namespace pyrcnn::match_boxes
