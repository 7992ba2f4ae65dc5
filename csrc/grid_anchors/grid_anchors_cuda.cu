#include "common/cuda/cuda.cuh"
#include "grid_anchors_check.h"

namespace pyrcnn::grid_anchors {
namespace {

Tensor cuda(const Tensor& cell_anchors, int64_t height, int64_t width, double stride_y, double stride_x,
            double offset) {
  const OnDevice on(cell_anchors);
  return forward(cell_anchors, height, width, stride_y, stride_x, offset,
                 [&](int64_t cells, const auto& kernel) { each(on, cells, kernel); });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("grid_anchors", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::grid_anchors
