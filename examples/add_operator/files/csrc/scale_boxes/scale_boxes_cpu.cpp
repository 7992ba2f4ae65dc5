#include "common/cpu/parallel.h"
#include "scale_boxes_check.h"

namespace pyrcnn::scale_boxes {
namespace {

constexpr double kNanosecondsPerCoordinate = 0.5;

Tensor cpu(const Tensor& boxes, double factor) {
  return forward(boxes, factor, [](int64_t coordinates, const auto& kernel) {
    parallel(coordinates, kNanosecondsPerCoordinate, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) kernel(i);
    });
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("scale_boxes", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::scale_boxes
