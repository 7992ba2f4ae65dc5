// The arguments of grid_anchors, checked once for both devices.
#pragma once
#include "common/tensor.h"
#include "grid_anchors.h"

namespace pyrcnn::grid_anchors {

// run(cells, kernel) loops over the cells on one device.
template <typename Run>
Tensor forward(const Tensor& cell_anchors, int64_t height, int64_t width, double stride_y, double stride_x,
               double offset, Run&& run) {
  check(cell_anchors.dim() == 2 && cell_anchors.size(1) == 4, "cell_anchors must be [A, 4], got ", shape(cell_anchors));
  check(height >= 0 && width >= 0, "feature_sizes must not be negative, got (", height, ", ", width, ")");
  const Tensor cell = as_contiguous(cell_anchors);
  const int64_t per_cell = cell.size(0);
  Tensor anchors = torch::stable::new_empty(cell, {height * width * per_cell, 4});
  dispatch_floating(cell, "cell_anchors", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    run(height * width,
        Kernel<T>{data<T>(cell), mutable_data<T>(anchors), per_cell, width, C(stride_y), C(stride_x), C(offset)});
  });
  return anchors;
}

}  // namespace pyrcnn::grid_anchors
