// The arguments of scale_boxes, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "scale_boxes.h"

namespace pyrcnn::scale_boxes {

// run(coordinates, kernel) loops over the coordinates on one device.
template <typename Run> Tensor forward(const Tensor& boxes, double factor, Run&& run) {
  check_tensors("boxes", boxes);
  check(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must be [K, 4], got ", shape(boxes));
  const Tensor given = as_contiguous(boxes);
  Tensor scaled = new_result("boxes", given, {given.size(0), 4});
  dispatch_floating(given, "boxes", [&](auto type) {
    using T = typename decltype(type)::type;
    run(given.numel(), Kernel<T>{data<T>(given), mutable_data<T>(scaled), compute_t<T>(factor)});
  });
  return scaled;
}

}  // namespace pyrcnn::scale_boxes
