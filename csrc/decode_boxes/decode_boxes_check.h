// The arguments of decode_boxes, checked once for both devices.
#pragma once
#include "../common/tensor.h"

namespace pyrcnn::decode_boxes {

using Weights = HeaderOnlyArrayRef<double>;

inline Tensor check_and_allocate(const Tensor& deltas, const Tensor& anchors, Weights weights) {
  check(deltas.dim() == 2 && deltas.size(1) == 4, "deltas must be [M, 4], got ", shape(deltas));
  check(anchors.sizes().equals(deltas.sizes()), "anchors must be ", shape(deltas), " as deltas are, got ", shape(anchors));
  check(anchors.scalar_type() == deltas.scalar_type(), "anchors must have the dtype of deltas, ",
        torch::headeronly::toString(deltas.scalar_type()));
  check_same_device("anchors", anchors, "deltas", deltas);
  check(weights.size() == 4, "weights must be 4 numbers, got ", weights.size());
  return torch::stable::new_empty(deltas, deltas.sizes());
}

template <typename K>
K kernel(const Tensor& deltas, const Tensor& anchors, const Tensor& boxes, Weights weights, double cap) {
  K kernel{{}, {}, {}, {}, typename K::C(cap)};
  kernel.deltas = static_cast<decltype(kernel.deltas)>(deltas.const_data_ptr());
  kernel.anchors = static_cast<decltype(kernel.anchors)>(anchors.const_data_ptr());
  kernel.boxes = static_cast<decltype(kernel.boxes)>(boxes.mutable_data_ptr());
  for (int i = 0; i < 4; ++i) kernel.weights[i] = typename K::C(weights[i]);
  return kernel;
}

}  // namespace pyrcnn::decode_boxes
