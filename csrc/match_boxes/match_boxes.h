// The rules of match_boxes for CPU and CUDA: every anchor's best ground truth, and the state in which the anchor is
// trained.
#pragma once
#include "common/math/box.h"

namespace pyrcnn::match_boxes {

// An anchor's state: 1 foreground, 0 background, -1 ignored. C and I are numbers or packs.
template <typename I, typename C> PYRCNN_HD I state(C best_iou, C high, C low) {
  const I foreground = I{} + 1, background = I{}, ignored = I{} - 1;
  return best_iou >= high ? foreground : (best_iou < low ? background : ignored);
}

// Does a ground truth whose best IoU over all anchors is `best_iou` claim the anchors with that IoU? Not if no anchor
// overlaps it, and not if these anchors are foreground anyway because they reach `high`.
template <typename C> PYRCNN_HD bool claims(C best_iou, C high) { return best_iou > C(0) && !(best_iou >= high); }

// Is more than `share` of the anchor inside the crowd's box?
template <typename C> PYRCNN_HD auto in_crowd(const Box<C>& anchor, C anchor_area, const Box<C>& crowd, C share) {
  return intersection(anchor, crowd) > share * anchor_area;
}

}  // namespace pyrcnn::match_boxes
