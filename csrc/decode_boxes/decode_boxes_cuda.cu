#include "../common/cuda.cuh"
#include "decode_boxes.h"
#include "decode_boxes_check.h"

namespace pyrcnn::decode_boxes {
namespace {

Tensor cuda(const Tensor& deltas, const Tensor& anchors, Weights weights, double clip) {
  Tensor boxes = check_and_allocate(deltas, anchors, weights);
  const OnDevice on(deltas);
  const Tensor d = torch::stable::contiguous(deltas), a = torch::stable::contiguous(anchors);
  dispatch_floating(deltas, "deltas", [&](auto type) {
    each(on, boxes.size(0), kernel<Kernel<typename decltype(type)::type>>(d, a, boxes, weights, clip));
  });
  return boxes;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("decode_boxes", TORCH_BOX(&cuda)); }
}  // namespace pyrcnn::decode_boxes
