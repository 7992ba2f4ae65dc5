#include "../common/sort.h"
#include "nms_check.h"
#include "nms_kernel.h"

namespace pyrcnn::nms {
namespace {

Tensor nms_cpu(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  check_boxes(boxes, scores);
  const int64_t n = boxes.size(0);
  const Tensor b = torch::stable::contiguous(boxes), s = torch::stable::contiguous(scores);
  return dispatch_floating(boxes, "boxes", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const std::unique_ptr<uint32_t[]> order(new uint32_t[2 * n]);
    uint32_t* kept = order.get() + n;
    sort_descending(data<T>(s), n, order.get());
    const std::unique_ptr<Tile<C>[]> tiles(new Tile<C>[tiles_for(n)]);
    const int64_t count =
        PYRCNN_KERNEL(greedy<T>)(Candidates<T>{data<T>(b), order.get(), n}, C(iou_threshold), n, tiles.get(), kept);
    Tensor indices = torch::stable::new_empty(boxes, {count}, ScalarType::Long);
    int64_t* to = mutable_data<int64_t>(indices);
    for (int64_t i = 0; i < count; ++i) to[i] = order[kept[i]];
    return indices;
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("nms", TORCH_BOX(&nms_cpu)); }
}  // namespace pyrcnn::nms
