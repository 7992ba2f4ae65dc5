// The arithmetic of boxes and of their regression deltas. C is float, double or a pack.
#pragma once
#include "exp.h"
#include "hd.h"

namespace pyrcnn {

template <typename C> struct Box {
  C x1, y1, x2, y2;
};
template <typename C> struct Delta {
  C x, y, w, h;
};

template <typename C> PYRCNN_HD C area(const Box<C>& b) { return (b.x2 - b.x1) * (b.y2 - b.y1); }

// The width and height of the overlap of two boxes; negative where they are apart.
template <typename C> struct Overlap {
  C w, h;
};
template <typename C> PYRCNN_HD Overlap<C> overlap(const Box<C>& a, const Box<C>& b) {
  return {lower(a.x2, b.x2) - higher(a.x1, b.x1), lower(a.y2, b.y2) - higher(a.y1, b.y1)};
}
template <typename C> PYRCNN_HD C area(const Overlap<C>& o) { return higher(o.w, C{}) * higher(o.h, C{}); }
template <typename C> PYRCNN_HD C intersection(const Box<C>& a, const Box<C>& b) { return area(overlap(a, b)); }

// Intersection over union, in torchvision's order of operations. 0 / 0 (two empty boxes) is NaN, which exceeds nothing.
template <typename C> PYRCNN_HD C over_union(C inter, C area_a, C area_b) { return inter / (area_a + area_b - inter); }
template <typename C> PYRCNN_HD C iou(const Box<C>& a, const Box<C>& b, C area_a, C area_b) {
  return over_union(intersection(a, b), area_a, area_b);
}
template <typename C> PYRCNN_HD C iou(const Box<C>& a, const Box<C>& b) { return iou(a, b, area(a), area(b)); }

template <typename C> PYRCNN_HD Box<C> clip(const Box<C>& b, C height, C width) {
  return {clamp(b.x1, C{}, width), clamp(b.y1, C{}, height), clamp(b.x2, C{}, width), clamp(b.y2, C{}, height)};
}

// One axis of a box, and of a delta. Coding treats x and y alike, so C may be a pack of both.
template <typename C> struct Span {
  C low, high;
};
template <typename C> struct Change {
  C shift, growth;
};

// Ren et al. 2015, eq. 2, solved for the box. `d` is already divided by the coder's weights. The growth is capped at
// `cap` (usually log(1000 / 16)) before exp; a NaN stays a NaN. kModest: `cap` is at most kModestCap, which makes exp
// cheaper and changes no bit.
constexpr float kModestCap = kMostBelow;
template <bool kModest = false, typename C> PYRCNN_HD Span<C> decode(const Span<C>& anchor, const Change<C>& d, C cap) {
  const C half = C{} + 0.5f, extent = anchor.high - anchor.low;
  const C centre = d.shift * extent + (anchor.low + extent * half);
  const C growth = lower(cap, d.growth);  // keeps a NaN
  const C half_extent = (kModest ? exp_below(growth) : exp_of(growth)) * extent * half;
  return {centre - half_extent, centre + half_extent};
}
template <bool kModest = false, typename C> PYRCNN_HD Box<C> decode(const Box<C>& anchor, const Delta<C>& d, C cap) {
  const Span<C> x = decode<kModest>(Span<C>{anchor.x1, anchor.x2}, Change<C>{d.x, d.w}, cap);
  const Span<C> y = decode<kModest>(Span<C>{anchor.y1, anchor.y2}, Change<C>{d.y, d.h}, cap);
  return {x.low, y.low, x.high, y.high};
}

// Ren et al. 2015, eq. 2: the deltas that `decode` turns back into `box`, times the coder's weights, in torchvision's
// order of operations. An anchor or a box without width or height gives infinities or NaN.
template <typename C> PYRCNN_HD Change<C> encode(const Span<C>& box, const Span<C>& anchor, const Change<C>& weights) {
  const C half = C{} + 0.5f, extent = anchor.high - anchor.low, box_extent = box.high - box.low;
  const C shift = (box.low + box_extent * half) - (anchor.low + extent * half);
  return {weights.shift * shift / extent, weights.growth * log_of(box_extent / extent)};
}
template <typename C> PYRCNN_HD Delta<C> encode(const Box<C>& box, const Box<C>& anchor, const Delta<C>& weights) {
  const Change<C> x = encode(Span<C>{box.x1, box.x2}, Span<C>{anchor.x1, anchor.x2}, Change<C>{weights.x, weights.w});
  const Change<C> y = encode(Span<C>{box.y1, box.y2}, Span<C>{anchor.y1, anchor.y2}, Change<C>{weights.y, weights.h});
  return {x.shift, y.shift, x.growth, y.growth};
}

}  // namespace pyrcnn
