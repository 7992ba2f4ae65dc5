#include "common/cpu/parallel.h"
#include "grid_anchors_check.h"

namespace pyrcnn::grid_anchors {
namespace {

constexpr double kNanosecondsPerAnchor = 2;

Tensor cpu(const Tensor& cell_anchors, int64_t height, int64_t width, double stride_y, double stride_x, double offset) {
  return forward(cell_anchors, height, width, stride_y, stride_x, offset, [](int64_t cells, const auto& kernel) {
    parallel(cells, kNanosecondsPerAnchor * double(kernel.per_cell), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) kernel(i);
    });
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("grid_anchors", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::grid_anchors
