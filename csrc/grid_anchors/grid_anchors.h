// grid_anchors: the anchors of one feature map, [H * W * A, 4], cell by cell and anchor by anchor within a cell.
#pragma once
#include "common/math/quotient.h"

namespace pyrcnn::grid_anchors {

template <typename T> struct Kernel {
  using C = compute_t<T>;
  const T* cell_anchors;  // [A, 4]
  T* anchors;
  int64_t per_cell, width;
  C stride_y, stride_x, offset;
  PYRCNN_HD void operator()(int64_t cell) const {
    const int64_t row = quotient(cell, width), column = cell - row * width;
    const C y = (C(row) + offset) * stride_y, x = (C(column) + offset) * stride_x;
    T* to = anchors + 4 * cell * per_cell;
    for (int64_t a = 0; a < 4 * per_cell; a += 4) {
      to[a] = T(C(cell_anchors[a]) + x), to[a + 1] = T(C(cell_anchors[a + 1]) + y);
      to[a + 2] = T(C(cell_anchors[a + 2]) + x), to[a + 3] = T(C(cell_anchors[a + 3]) + y);
    }
  }
};

}  // namespace pyrcnn::grid_anchors
