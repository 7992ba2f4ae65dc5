// The arguments of grid_anchors, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "grid_anchors.h"

namespace pyrcnn::grid_anchors {

// run(cells, kernel) loops over the cells on one device.
template <typename Run>
Tensor forward(const Tensor& cell_anchors, int64_t height, int64_t width, double stride_y, double stride_x,
               double offset, Run&& run) {
  check_sizes("cell_anchors", cell_anchors);
  check(cell_anchors.dim() == 2 && cell_anchors.size(1) == 4, "cell_anchors must be [A, 4], got ", shape(cell_anchors));
  check(height >= 0 && width >= 0, "feature_sizes must not be negative, got (", height, ", ", width, ")");
  const Tensor cell = as_contiguous(cell_anchors);
  const int64_t per_cell = cell.size(0);
  const int64_t count = checked_product("feature_sizes", {height, width, per_cell});
  Tensor anchors = new_result("feature_sizes", cell, {count, 4});
  dispatch_floating(cell, "cell_anchors", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    run(count == 0 ? 0 : height * width,
        Kernel<T>{data<T>(cell), mutable_data<T>(anchors), per_cell, width, C(stride_y), C(stride_x), C(offset)});
  });
  return anchors;
}

}  // namespace pyrcnn::grid_anchors
