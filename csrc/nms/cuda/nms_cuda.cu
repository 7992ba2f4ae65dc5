// nms, batched_nms and nms_padded on CUDA. Up to 8192 boxes per image are sorted and suppressed in one launch
// (at_once.cuh). More are sorted (order.cuh), then suppressed in chunks (chunks.cuh).
#include "at_once.cuh"
#include "nms/check.h"
#include "order.cuh"
#include "chunks.cuh"

namespace pyrcnn::nms {
namespace {

template <typename T> void solve(const OnDevice& on, const Tensor& like, Problem<T> p) {
  if (p.images == 0) return;
  if (p.max_output == 0 || p.rows == 0) {
    set_bytes(on, p.counts, 0, 8 * p.images);
    set_bytes(on, p.indices, 0xff, 8 * p.images * p.max_output);  // -1
    return;
  }
  const Tensor order = scratch_bytes(like, 4 * p.images * p.rows), competitors = scratch_bytes(like, 8 * p.images);
  p.order = mutable_data<uint32_t>(order), p.competitors = mutable_data<int64_t>(competitors);
  if (p.rows <= kMostRows && can_run_together()) return solve_at_once(on, like, p);
  order_rows(on, like, p);
  suppress(on, like, p);
}

// Cuts `indices` to the number that is kept. Only the device knows it, so this waits for the device and copies eight
// bytes.
Tensor trimmed(const OnDevice& on, const Tensor& indices, const Tensor& count) {
  int64_t size = 0;
  STD_CUDA_CHECK(cudaMemcpyAsync(&size, count.const_data_ptr(), 8, cudaMemcpyDeviceToHost, on.stream));
  STD_CUDA_CHECK(cudaStreamSynchronize(on.stream));
  Tensor all = indices;
  return torch::stable::clone(torch::stable::narrow(all, 0, 0, size));
}

Tensor exact_size(const Tensor& boxes, const Tensor& scores, const Tensor* groups, double iou_threshold) {
  const OnDevice on(boxes);
  const int64_t rows = boxes.size(0);
  const Tensor b = as_contiguous(boxes), s = as_contiguous(scores);
  const Tensor indices = torch::stable::new_empty(boxes, {rows}, ScalarType::Long);
  const Tensor count = torch::stable::new_empty(boxes, {1}, ScalarType::Long);
  dispatch_floating(boxes, "boxes", [&](auto type) {
    using T = typename decltype(type)::type;
    Problem<T> p{};
    p.boxes = data<T>(b), p.scores = data<T>(s), p.groups = groups ? data<int64_t>(*groups) : nullptr;
    p.images = 1, p.rows = p.max_output = rows;
    p.iou_threshold = compute_t<T>(iou_threshold), p.all_compete = true;
    p.indices = mutable_data<int64_t>(indices), p.counts = mutable_data<int64_t>(count);
    solve(on, boxes, p);
  });
  return trimmed(on, indices, count);
}

Tensor nms_on_cuda(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  check_nms(boxes, scores);
  return exact_size(boxes, scores, nullptr, iou_threshold);
}

Tensor batched_nms_on_cuda(const Tensor& boxes, const Tensor& scores, const Tensor& idxs, double iou_threshold) {
  const Tensor groups = check_batched_nms(boxes, scores, idxs);
  return exact_size(boxes, scores, &groups, iou_threshold);
}

std::tuple<Tensor, Tensor> nms_padded_on_cuda(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                                              int64_t max_output, const std::optional<Tensor>& groups,
                                              double score_threshold, const std::optional<Tensor>& valid) {
  const Padded arguments = check_nms_padded(boxes, scores, max_output, groups, valid);
  const OnDevice on(boxes);
  dispatch_floating(boxes, "boxes", [&](auto type) {
    using T = typename decltype(type)::type;
    Problem<T> p{};
    p.boxes = data<T>(arguments.boxes), p.scores = data<T>(arguments.scores);
    p.groups = groups ? data<int64_t>(arguments.groups) : nullptr;
    p.valid = valid ? data<int64_t>(arguments.valid) : nullptr;
    p.images = arguments.images, p.rows = arguments.rows, p.max_output = max_output;
    p.iou_threshold = compute_t<T>(iou_threshold), p.score_threshold = compute_t<T>(score_threshold);
    p.indices = mutable_data<int64_t>(arguments.indices), p.counts = mutable_data<int64_t>(arguments.counts);
    solve(on, boxes, p);
  });
  return {arguments.indices, arguments.counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("nms", PYRCNN_BOX(&nms_on_cuda));
  m.impl("batched_nms", PYRCNN_BOX(&batched_nms_on_cuda));
  m.impl("nms_padded", PYRCNN_BOX(&nms_padded_on_cuda));
}

}  // namespace pyrcnn::nms
