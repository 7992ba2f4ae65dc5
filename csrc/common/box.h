// Boxes and their regression deltas: the one place where this arithmetic is written. C is float, double or a pack.
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

// How far two boxes overlap; below 0 where they are apart.
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

// Ren et al. 2015, eq. 2, solved for the box; `d` is already divided by the coder's weights. Widths and heights are
// capped at `cap` before exp (log(1000 / 16) by custom); a NaN stays a NaN.
template <typename C> PYRCNN_HD Box<C> decode(const Box<C>& anchor, const Delta<C>& d, C cap) {
  const C half = C{} + 0.5f;
  const C w = anchor.x2 - anchor.x1, h = anchor.y2 - anchor.y1;
  const C x = d.x * w + (anchor.x1 + w * half), y = d.y * h + (anchor.y1 + h * half);
  const C half_w = exp_of(d.w > cap ? cap : d.w) * w * half, half_h = exp_of(d.h > cap ? cap : d.h) * h * half;
  return {x - half_w, y - half_h, x + half_w, y + half_h};
}

// Ren et al. 2015, eq. 2: the deltas that `decode` turns back into `box`, times the coder's weights (in torchvision's
// order of operations). An anchor or a box without width or height gives infinities or NaN.
template <typename C> PYRCNN_HD Delta<C> encode(const Box<C>& box, const Box<C>& anchor, const Delta<C>& weights) {
  const C half = C{} + 0.5f;
  const C w = anchor.x2 - anchor.x1, h = anchor.y2 - anchor.y1, box_w = box.x2 - box.x1, box_h = box.y2 - box.y1;
  const C x = (box.x1 + box_w * half) - (anchor.x1 + w * half), y = (box.y1 + box_h * half) - (anchor.y1 + h * half);
  return {weights.x * x / w, weights.y * y / h, weights.w * log_of(box_w / w), weights.h * log_of(box_h / h)};
}

}  // namespace pyrcnn
