// What proposals and detections go through between decoding and suppression.
#pragma once
#include "box.h"

namespace pyrcnn {

template <typename C> struct AnchorDelta {
  Box<C> anchor;
  Delta<C> delta;  // already divided by the coder's weights
};

// What boxes are clipped to: `low` up to height and width. A box must be at least min_size wide and high after that.
template <typename C> struct Window {
  C low, height, width, min_size;
};
// Clipping either comes before suppression (then the image is the first window, and the last changes nothing), or after
// it (then the first lets everything finite pass, and the last also drops what is left without an area).
template <typename C> PYRCNN_HD Window<C> first_window(bool clip_first, C height, C width, C min_size) {
  const C infinity = C(INFINITY);
  return clip_first ? Window<C>{C{}, height, width, min_size} : Window<C>{-infinity, infinity, infinity, -infinity};
}
template <typename C> PYRCNN_HD bool fit_last(Box<C>& box, C height, C width, C min_size) {
  box = clip(box, height, width);
  const C w = box.x2 - box.x1, h = box.y2 - box.y1;
  return w > C{} && h > C{} && w >= min_size && h >= min_size;
}

// Clips `box` to the window; true (a mask for packs) if it was finite and what is left is large enough. The comparisons
// are positive, so a NaN size keeps nothing. P is C or a pack of it.
template <typename P, typename C> PYRCNN_HD auto fit(Box<P>& box, const Window<C>& window) {
  const P zero = (box.x1 - box.x1) + (box.y1 - box.y1) + (box.x2 - box.x2) + (box.y2 - box.y2);  // or NaN
  const P low = P{} + window.low, height = P{} + window.height, width = P{} + window.width;
  const P min_size = P{} + window.min_size;
  box = {clamp(box.x1, low, width), clamp(box.y1, low, height), clamp(box.x2, low, width), clamp(box.y2, low, height)};
  return (zero == P{}) & (box.x2 - box.x1 >= min_size) & (box.y2 - box.y1 >= min_size);
}

}  // namespace pyrcnn
