#include "common/cuda/cuda.cuh"
#include "scale_boxes_check.h"

namespace pyrcnn::scale_boxes {
namespace {

Tensor cuda(const Tensor& boxes, double factor) {
  const OnDevice on(boxes);
  return forward(boxes, factor, [&](int64_t coordinates, const auto& kernel) { each(on, coordinates, kernel); });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("scale_boxes", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::scale_boxes
