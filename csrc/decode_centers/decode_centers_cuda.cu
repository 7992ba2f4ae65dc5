#include "common/cuda/cuda.cuh"
#include "decode_centers_check.h"

namespace pyrcnn::decode_centers {
namespace {

Tensor cuda(const Tensor& ys, const Tensor& xs, const Tensor& size, const Tensor& offset, double stride,
            bool clamp_size, bool clip) {
  Tensor boxes = check_and_allocate(ys, xs, size, offset);
  const OnDevice on(size);
  const Tensor y = as_contiguous(ys), x = as_contiguous(xs);
  dispatch_floating(size, "size", [&](auto type) {
    using T = typename decltype(type)::type;
    each(on, y.numel(), kernel<T>(y, x, size, offset, boxes, stride, clamp_size, clip));
  });
  return boxes;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("decode_centers", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::decode_centers
