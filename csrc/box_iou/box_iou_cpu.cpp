#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "box_iou_check.h"
#include "box_iou_kernel.h"
#include "python/kernels.h"

namespace pyrcnn::box_iou {
namespace {

constexpr double kNanosecondsPerPair = 0.5, kNanosecondsPerGradient = 3, kNanosecondsPerBox = 10;

}  // namespace

Tensor cpu(const Tensor& boxes1, const Tensor& boxes2) {
  const Sizes sizes = check_arguments(boxes1, boxes2);
  Tensor result = empty_result("boxes2", boxes1, result_shape(boxes1, boxes2), result_type(boxes1));
  forward(boxes1, boxes2, sizes, result, [&]<typename T>(const Forward<T>& job) {
    const auto loop = PYRCNN_KERNEL(rows<T>);
    const double cost = kNanosecondsPerBox + kNanosecondsPerPair * double(sizes.second);
    parallel(sizes.images * sizes.first, cost, [&](int64_t begin, int64_t end) { loop(job, begin, end); });
  });
  return result;
}

namespace {

std::tuple<Tensor, Tensor> cpu_backward(const Tensor& grad, const Tensor& boxes1, const Tensor& boxes2, bool need_first,
                                        bool need_second) {
  return backward(grad, boxes1, boxes2, need_first, need_second, []<typename T>(const Backward<T>& job) {
    const auto loop = PYRCNN_KERNEL(columns<T>);
    const double cost = kNanosecondsPerBox + kNanosecondsPerGradient * double(job.sizes.first);
    parallel(job.sizes.images * job.sizes.second, cost, [&](int64_t begin, int64_t end) { loop(job, begin, end); });
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("box_iou", PYRCNN_BOX(&cpu));
  m.impl("_box_iou_backward", PYRCNN_BOX(&cpu_backward));
}
}  // namespace pyrcnn::box_iou
