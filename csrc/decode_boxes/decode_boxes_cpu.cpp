#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "decode_boxes_check.h"
#include "decode_boxes_kernel.h"

namespace pyrcnn::decode_boxes {
namespace {

constexpr double kNanosecondsPerBox = 3, kNanosecondsPerGradient = 20;

Tensor cpu(const Tensor& deltas, const Tensor& anchors, int64_t repeat, Weights weights, double clip, Weights size) {
  const auto make = [&] { return empty_result("deltas", deltas, deltas.sizes(), anchors.scalar_type()); };
  return forward(deltas, anchors, repeat, weights, clip, size, make, [](const auto& kernel) {
    using K = std::decay_t<decltype(kernel)>;
    const auto loop = PYRCNN_KERNEL(rows<K>);
    parallel(kernel.pairing.rows, kNanosecondsPerBox, [&](int64_t begin, int64_t end) { loop(kernel, begin, end); });
  });
}

std::tuple<Tensor, Tensor> cpu_backward(const Tensor& grad, const Tensor& deltas, const Tensor& anchors, int64_t repeat,
                                        Weights weights, double clip, bool need_anchors) {
  return backward(grad, deltas, anchors, repeat, weights, clip, need_anchors, [](const auto& kernel) {
    const double rows_per_anchor = double(kernel.pairing.batches() * kernel.pairing.repeat);
    parallel(kernel.pairing.anchors, kNanosecondsPerGradient * (1 + rows_per_anchor), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) kernel(i);
    });
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("decode_boxes", PYRCNN_BOX(&cpu));
  m.impl("_decode_boxes_backward", PYRCNN_BOX(&cpu_backward));
}
}  // namespace pyrcnn::decode_boxes
