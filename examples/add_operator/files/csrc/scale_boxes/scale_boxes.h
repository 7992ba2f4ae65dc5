// scale_boxes: every coordinate times a factor.
#pragma once
#include "common/math/hd.h"

namespace pyrcnn::scale_boxes {

template <typename T> struct Kernel {
  using C = compute_t<T>;
  const T* boxes;  // [K, 4], one coordinate per call
  T* scaled;
  C factor;
  PYRCNN_HD void operator()(int64_t i) const { scaled[i] = T(C(boxes[i]) * factor); }
};

}  // namespace pyrcnn::scale_boxes
