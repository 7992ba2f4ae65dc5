#include "common/cuda/cuda.cuh"
#include "box_iou_check.h"

namespace pyrcnn::box_iou {
namespace {

Tensor cuda(const Tensor& boxes1, const Tensor& boxes2) {
  const Sizes sizes = check_arguments(boxes1, boxes2);
  const OnDevice on(boxes1);
  Tensor result = new_result("boxes2", boxes1, result_shape(boxes1, boxes2), result_type(boxes1));
  forward(boxes1, boxes2, sizes, result, [&](const auto& job) { each(on, result.numel(), job); });
  return result;
}

std::tuple<Tensor, Tensor> cuda_backward(const Tensor& grad, const Tensor& boxes1, const Tensor& boxes2,
                                         bool need_first, bool need_second) {
  const OnDevice on(boxes1);
  return backward(grad, boxes1, boxes2, need_first, need_second,
                  [&](const auto& job) { each(on, job.sizes.images * job.sizes.second, job); });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("box_iou", PYRCNN_BOX(&cuda));
  m.impl("_box_iou_backward", PYRCNN_BOX(&cuda_backward));
}
}  // namespace pyrcnn::box_iou
