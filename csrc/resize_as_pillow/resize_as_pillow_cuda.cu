#include "common/cuda/cuda.cuh"
#include "resize_as_pillow_check.h"

namespace pyrcnn::resize_as_pillow {
namespace {

Tensor cuda(const Tensor& image, int64_t height, int64_t width) { return on_cuda(image, height, width); }

}  // namespace

Tensor on_cuda(const Tensor& image, int64_t height, int64_t width) {
  const OnDevice on(image);
  return forward(image, height, width, [&](const auto& pass) { each(on, 3 * pass.height * pass.width, pass); });
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("_resize_as_pillow", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::resize_as_pillow
