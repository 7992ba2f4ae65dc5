// decode_centers: boxes from peaks and from the size and offset maps (Zhou et al. 2019, section 4). One box per call.
#pragma once
#include "common/math/box.h"
#include "common/math/quotient.h"

namespace pyrcnn::decode_centers {

// Element strides of a [N, C, H, W] tensor.
struct Strides {
  int64_t n, c, y, x;
};

template <typename T> struct Kernel {
  using C = compute_t<T>;
  const int64_t *ys, *xs;  // [N * k]
  const T *size, *offset;  // (height, width) and (y, x), in cells
  C* boxes;                // [N * k, 4]
  Strides of_size, of_offset;
  int64_t k, height, width;
  C stride;
  bool clamp_size, clip_to_map;

  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t n = quotient(i, k), y = ys[i], x = xs[i];
    Box<C> box{};
    if (y >= 0 && y < height && x >= 0 && x < width) {
      const T* s = size + n * of_size.n + y * of_size.y + x * of_size.x;
      const T* o = offset + n * of_offset.n + y * of_offset.y + x * of_offset.x;
      C h = C(s[0]), w = C(s[of_size.c]);
      if (clamp_size) h = h < 0 ? C(0) : h, w = w < 0 ? C(0) : w;  // a NaN stays a NaN
      const C center_y = C(y) + C(o[0]), center_x = C(x) + C(o[of_offset.c]);
      box = {center_x - w / 2, center_y - h / 2, center_x + w / 2, center_y + h / 2};
      if (clip_to_map) box = clip(box, C(height), C(width));
    }
    C* to = boxes + 4 * i;
    to[0] = box.x1 * stride, to[1] = box.y1 * stride, to[2] = box.x2 * stride, to[3] = box.y2 * stride;
  }
};

}  // namespace pyrcnn::decode_centers
