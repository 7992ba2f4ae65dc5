// decode_boxes: deltas [M, 4] and anchors [M, 4] -> boxes [M, 4]. The per-box kernel that CPU and CUDA loop over.
#pragma once
#include "../common/box.h"

namespace pyrcnn::decode_boxes {

template <typename T> struct Kernel {
  using C = compute_t<T>;
  const T* deltas;
  const T* anchors;
  T* boxes;
  C weights[4];
  C cap;
  PYRCNN_HD void operator()(int64_t i) const {
    const T *d = deltas + 4 * i, *a = anchors + 4 * i;
    const Delta<C> delta{C(d[0]) / weights[0], C(d[1]) / weights[1], C(d[2]) / weights[2], C(d[3]) / weights[3]};
    const Box<C> box = decode(Box<C>{C(a[0]), C(a[1]), C(a[2]), C(a[3])}, delta, cap);
    T* to = boxes + 4 * i;
    to[0] = T(box.x1), to[1] = T(box.y1), to[2] = T(box.x2), to[3] = T(box.y2);
  }
};

}  // namespace pyrcnn::decode_boxes
