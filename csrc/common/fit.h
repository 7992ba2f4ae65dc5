// What proposals and detections go through between decoding and suppression.
#pragma once
#include "box.h"

namespace pyrcnn {

template <typename C> struct AnchorDelta {
  Box<C> anchor;
  Delta<C> delta;  // already divided by the coder's weights
};

// Clips `box` to the image; true (a mask for packs) if it was finite and what is left is at least min_size wide and
// high. The comparisons are positive, so a NaN size keeps nothing.
template <typename C> PYRCNN_HD auto fit(Box<C>& box, C height, C width, C min_size) {
  const C zero = (box.x1 - box.x1) + (box.y1 - box.y1) + (box.x2 - box.x2) + (box.y2 - box.y2);  // or NaN
  box = clip(box, height, width);
  return (zero == C{}) & (box.x2 - box.x1 >= min_size) & (box.y2 - box.y1 >= min_size);
}

}  // namespace pyrcnn
