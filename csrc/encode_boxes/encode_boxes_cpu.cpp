#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "encode_boxes_check.h"
#include "encode_boxes_kernel.h"

namespace pyrcnn::encode_boxes {
namespace {

constexpr double kNanosecondsPerBox = 4, kNanosecondsPerGradient = 20;

Tensor cpu(const Tensor& boxes, const Tensor& anchors, int64_t repeat, Weights weights) {
  const auto make = [&] { return empty_result("boxes", boxes, boxes.sizes(), anchors.scalar_type()); };
  return forward(boxes, anchors, repeat, weights, make, [](const auto& kernel) {
    using K = std::decay_t<decltype(kernel)>;
    const auto loop = PYRCNN_KERNEL(rows<K>);
    parallel(kernel.pairing.rows, kNanosecondsPerBox, [&](int64_t begin, int64_t end) { loop(kernel, begin, end); });
  });
}

std::tuple<Tensor, Tensor> cpu_backward(const Tensor& grad, const Tensor& boxes, const Tensor& anchors, int64_t repeat,
                                        Weights weights, bool need_anchors) {
  return backward(grad, boxes, anchors, repeat, weights, need_anchors, [](const auto& kernel) {
    const double rows_per_anchor = double(kernel.pairing.batches() * kernel.pairing.repeat);
    parallel(kernel.pairing.anchors, kNanosecondsPerGradient * (1 + rows_per_anchor), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) kernel(i);
    });
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("encode_boxes", PYRCNN_BOX(&cpu));
  m.impl("_encode_boxes_backward", PYRCNN_BOX(&cpu_backward));
}
}  // namespace pyrcnn::encode_boxes
