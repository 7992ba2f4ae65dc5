#include "decode_boxes_check.h"
#include "decode_boxes_kernel.h"

namespace pyrcnn::decode_boxes {
namespace {

constexpr double kNanosecondsPerBox = 5;

Tensor cpu(const Tensor& deltas, const Tensor& anchors, Weights weights, double clip) {
  Tensor boxes = check_and_allocate(deltas, anchors, weights);
  const Tensor d = torch::stable::contiguous(deltas), a = torch::stable::contiguous(anchors);
  dispatch_floating(deltas, "deltas", [&](auto type) {
    using T = typename decltype(type)::type;
    const auto k = kernel<Kernel<T>>(d, a, boxes, weights, clip);
    const auto rows = PYRCNN_KERNEL(rows<T>);
    parallel(boxes.size(0), kNanosecondsPerBox, [&](int64_t begin, int64_t end) { rows(k, begin, end); });
  });
  return boxes;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("decode_boxes", TORCH_BOX(&cpu)); }
}  // namespace pyrcnn::decode_boxes
