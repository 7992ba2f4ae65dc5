// Clipping boxes to the image and dropping small ones, which proposals and detections share.
#pragma once
#include "box.h"

namespace pyrcnn {

template <typename C> struct AnchorDelta {
  Box<C> anchor;
  Delta<C> delta;  // already divided by the coder's weights
};

// Boxes are clipped to [low, width] and [low, height]. After that they must be at least min_size wide and high.
template <typename C> struct ClipLimits {
  C low, height, width, min_size;
};
// Boxes are clipped before suppression (clip_first), or after it. In the second case the limits before suppression let
// every finite box pass.
template <typename C>
PYRCNN_HD ClipLimits<C> limits_before_suppression(bool clip_first, C height, C width, C min_size) {
  const C infinity = C(INFINITY);
  return clip_first ? ClipLimits<C>{C{}, height, width, min_size}
                    : ClipLimits<C>{-infinity, infinity, infinity, -infinity};
}
// Clips after suppression; false if the box then has no area or is too small.
template <typename C> PYRCNN_HD bool clip_and_filter_last(Box<C>& box, C height, C width, C min_size) {
  box = clip(box, height, width);
  const C w = box.x2 - box.x1, h = box.y2 - box.y1;
  return w > C{} && h > C{} && w >= min_size && h >= min_size;
}

// Clips `box` to the limits; true (for packs a mask) if it was finite and is still large enough. A NaN in the limits
// fails every comparison, so that no box passes. P is C or a pack of it.
template <typename P, typename C> PYRCNN_HD auto clip_and_filter(Box<P>& box, const ClipLimits<C>& limits) {
  // 0, or NaN for a box that is not finite.
  const P zero = (box.x1 - box.x1) + (box.y1 - box.y1) + (box.x2 - box.x2) + (box.y2 - box.y2);
  const P low = P{} + limits.low, height = P{} + limits.height, width = P{} + limits.width;
  const P min_size = P{} + limits.min_size;
  box = {clamp(box.x1, low, width), clamp(box.y1, low, height), clamp(box.x2, low, width), clamp(box.y2, low, height)};
  return (zero == P{}) & (box.x2 - box.x1 >= min_size) & (box.y2 - box.y1 >= min_size);
}

}  // namespace pyrcnn
