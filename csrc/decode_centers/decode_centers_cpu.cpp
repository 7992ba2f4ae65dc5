#include "common/cpu/parallel.h"
#include "decode_centers_check.h"
#include "python/kernels.h"

namespace pyrcnn::decode_centers {
namespace {

constexpr double kNanosecondsPerBox = 20;

}  // namespace

Tensor cpu(const Tensor& ys, const Tensor& xs, const Tensor& size, const Tensor& offset, double stride, bool clamp_size,
           bool clip) {
  Tensor boxes = check_and_allocate(ys, xs, size, offset);
  const Tensor y = as_contiguous(ys), x = as_contiguous(xs);
  dispatch_floating(size, "size", [&](auto type) {
    const auto box = kernel<typename decltype(type)::type>(y, x, size, offset, boxes, stride, clamp_size, clip);
    parallel(y.numel(), kNanosecondsPerBox, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) box(i);
    });
  });
  return boxes;
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("decode_centers", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::decode_centers
