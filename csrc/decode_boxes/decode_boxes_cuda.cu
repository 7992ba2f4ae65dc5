#include "common/cuda/cuda.cuh"
#include "decode_boxes_check.h"

namespace pyrcnn::decode_boxes {
namespace {

Tensor cuda(const Tensor& deltas, const Tensor& anchors, int64_t repeat, Weights weights, double clip, Weights size) {
  const auto make = [&] { return new_result("deltas", deltas, deltas.sizes(), anchors.scalar_type()); };
  return forward(deltas, anchors, repeat, weights, clip, size, make,
                 [&](const auto& kernel) { each(OnDevice(deltas), kernel.pairing.rows, kernel); });
}

std::tuple<Tensor, Tensor> cuda_backward(const Tensor& grad, const Tensor& deltas, const Tensor& anchors,
                                         int64_t repeat, Weights weights, double clip, bool need_anchors) {
  return backward(grad, deltas, anchors, repeat, weights, clip, need_anchors,
                  [&](const auto& kernel) { each(OnDevice(deltas), kernel.pairing.anchors, kernel); });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("decode_boxes", PYRCNN_BOX(&cuda));
  m.impl("_decode_boxes_backward", PYRCNN_BOX(&cuda_backward));
}
}  // namespace pyrcnn::decode_boxes
