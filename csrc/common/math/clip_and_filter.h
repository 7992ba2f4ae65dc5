// Clipping boxes to the image and dropping small ones, which proposals and detections share.
#pragma once
#include "box.h"

namespace pyrcnn {

template <typename C> struct AnchorDelta {
  Box<C> anchor;
  Delta<C> delta;  // already divided by the coder's weights
};

// Boxes are clipped to [0, width] and [0, height]. After that they must be at least min_size wide and high.
template <typename C> struct ClipLimits {
  C height, width, min_size;
};

// Clips `box` to the limits; true (for packs a mask) if it was finite and is still large enough. A NaN in the limits
// fails every comparison, so that no box passes. P is C or a pack of it.
template <typename P, typename C> PYRCNN_HD auto clip_and_filter(Box<P>& box, const ClipLimits<C>& limits) {
  // 0, or NaN for a box that is not finite.
  const P zero = (box.x1 - box.x1) + (box.y1 - box.y1) + (box.x2 - box.x2) + (box.y2 - box.y2);
  const P low{}, height = P{} + limits.height, width = P{} + limits.width;
  const P min_size = P{} + limits.min_size;
  box = {clamp(box.x1, low, width), clamp(box.y1, low, height), clamp(box.x2, low, width), clamp(box.y2, low, height)};
  return (zero == P{}) & (box.x2 - box.x1 >= min_size) & (box.y2 - box.y1 >= min_size);
}

}  // namespace pyrcnn
