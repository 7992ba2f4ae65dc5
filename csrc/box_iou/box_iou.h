// box_iou: the intersection over union of every box of one list with every box of another, and its gradient. This file
// has the arithmetic of one pair of boxes, and what a CUDA thread does with it.
#pragma once
#include "common/math/box.h"
#include "common/math/quotient.h"

namespace pyrcnn::box_iou {

// Rounds the sides of an intersection to the boxes' own type T, as torchvision does. All else is computed in C.
template <typename T> struct Rounded {
  using C = compute_t<T>;
  PYRCNN_HD Overlap<C> operator()(const Overlap<C>& o) const { return {C(T(o.w)), C(T(o.h))}; }
};

template <typename C, typename R> PYRCNN_HD C value(const Box<C>& a, const Box<C>& b, C area_a, C area_b, R rounded) {
  return over_union(area(rounded(overlap(a, b))), area_a, area_b);
}

// The gradient of min(mine, other) to `mine`. Equal coordinates get half each, as in torch.
template <typename C> PYRCNN_HD C share_of_lower(C mine, C other, C grad) {
  return mine < other ? grad : (mine == other ? grad * 0.5f : C{});
}

// The gradient to b. An overlap of exactly 0 has a gradient, as in torch. Zero over zero gives NaN.
template <typename C, typename R>
PYRCNN_HD Box<C> gradient(const Box<C>& a, const Box<C>& b, C area_a, C area_b, C grad, R rounded) {
  const Overlap<C> o = rounded(overlap(a, b));
  const C inter = area(o), all = area_a + area_b - inter;
  const C to_union = C{} - grad * (inter / all / all), to_inter = grad / all - to_union;
  const C to_w = o.w >= C{} ? to_inter * higher(o.h, C{}) : C{}, to_h = o.h >= C{} ? to_inter * higher(o.w, C{}) : C{};
  const C by_w = to_union * (b.y2 - b.y1), by_h = to_union * (b.x2 - b.x1);  // b's area is part of the union
  return {C{} - share_of_lower(a.x1, b.x1, to_w) - by_w, C{} - share_of_lower(a.y1, b.y1, to_h) - by_h,
          share_of_lower(b.x2, a.x2, to_w) + by_w, share_of_lower(b.y2, a.y2, to_h) + by_h};
}

// In each of `images` images, `first` boxes are compared with `second` boxes.
struct Sizes {
  int64_t images, first, second;
};

template <typename T> PYRCNN_HD Box<compute_t<T>> box_at(const T* boxes, int64_t i) {
  using C = compute_t<T>;
  const T* b = boxes + 4 * i;
  return {C(b[0]), C(b[1]), C(b[2]), C(b[3])};
}

template <typename T> struct Forward {
  using C = compute_t<T>;
  const T* first;   // [images, K1, 4]
  const T* second;  // [images, K2, 4]
  C* ious;          // [images, K1, K2]
  Sizes sizes;
  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t row = quotient(i, sizes.second), column = i - row * sizes.second;
    const Box<C> a = box_at(first, row), b = box_at(second, quotient(row, sizes.first) * sizes.second + column);
    ious[i] = value(a, b, area(a), area(b), Rounded<T>{});
  }
};

// The gradient to one box of the second list, summed in the order of the first list. IoU is symmetric, so the gradient
// to the first list is the same with the lists exchanged and `grad` transposed.
template <typename T> struct Backward {
  using C = compute_t<T>;
  const C* grad;    // [images, K1, K2]
  const T* first;   // [images, K1, 4]
  const T* second;  // [images, K2, 4]
  T* to_second;
  Sizes sizes;
  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t image = quotient(i, sizes.second), column = i - image * sizes.second;
    const Box<C> b = box_at(second, i);
    const C area_b = area(b);
    Box<C> sum{C(0), C(0), C(0), C(0)};
    for (int64_t row = image * sizes.first; row < (image + 1) * sizes.first; ++row) {
      const Box<C> a = box_at(first, row);
      const Box<C> d = gradient(a, b, area(a), area_b, grad[row * sizes.second + column], Rounded<T>{});
      sum = {sum.x1 + d.x1, sum.y1 + d.y1, sum.x2 + d.x2, sum.y2 + d.y2};
    }
    T* to = to_second + 4 * i;
    to[0] = T(sum.x1), to[1] = T(sum.y1), to[2] = T(sum.x2), to[3] = T(sum.y2);
  }
};

}  // namespace pyrcnn::box_iou
