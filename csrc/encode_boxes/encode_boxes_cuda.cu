#include "common/cuda/cuda.cuh"
#include "encode_boxes_check.h"

namespace pyrcnn::encode_boxes {
namespace {

Tensor cuda(const Tensor& boxes, const Tensor& anchors, int64_t repeat, Weights weights) {
  const auto make = [&] { return new_result("boxes", boxes, boxes.sizes(), anchors.scalar_type()); };
  return forward(boxes, anchors, repeat, weights, make,
                 [&](const auto& kernel) { each(OnDevice(boxes), kernel.pairing.rows, kernel); });
}

std::tuple<Tensor, Tensor> cuda_backward(const Tensor& grad, const Tensor& boxes, const Tensor& anchors, int64_t repeat,
                                         Weights weights, bool need_anchors) {
  return backward(grad, boxes, anchors, repeat, weights, need_anchors,
                  [&](const auto& kernel) { each(OnDevice(boxes), kernel.pairing.anchors, kernel); });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("encode_boxes", PYRCNN_BOX(&cuda));
  m.impl("_encode_boxes_backward", PYRCNN_BOX(&cuda_backward));
}
}  // namespace pyrcnn::encode_boxes
