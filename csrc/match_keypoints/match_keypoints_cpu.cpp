#include "../heatmap_peaks/find_peaks.h"
#include "match_keypoints_check.h"
#include "match_keypoints_kernel.h"

namespace pyrcnn::match_keypoints {
namespace {

constexpr double kNanosecondsPerPair = 0.3;  // a detection's joint and a candidate

template <typename T> void run(const Inputs& inputs, const Options& o, const Outputs& out) {
  using C = compute_t<T>;
  const Inputs in = prepared(inputs, out.scores.scalar_type());
  const heatmap_peaks::Peaks peaks = heatmap_peaks::find_peaks(in.heatmap, o.peaks());
  const std::vector<C> spreads(o.spreads.begin(), o.spreads.end());
  const Maps<T> maps = match_keypoints::maps<T>(in, o, peaks, out, spreads.empty() ? nullptr : spreads.data());
  const auto match = PYRCNN_KERNEL(match<T>);
  const double cost = double(maps.detections) * (20 + double(maps.candidates) * kNanosecondsPerPair);
  parallel(in.heatmap.size(0) * maps.joints, cost, [&](int64_t begin, int64_t end) {
    std::vector<C> scratch(4 * (maps.candidates + 16));
    for (int64_t i = begin; i < end; ++i) match(maps, i / maps.joints, i % maps.joints, scratch.data());
  });
}

std::tuple<Tensor, Tensor> cpu(const Tensor& ys, const Tensor& xs, const Tensor& heatmap, const Tensor& regression,
                               const Tensor& offset, const std::optional<Tensor>& boxes, double stride,
                               const std::optional<Tensor>& image_sizes, int64_t candidates, int64_t kernel,
                               bool sigmoid, double tolerance, int64_t ranking, double distance_offset,
                               HeaderOnlyArrayRef<double> spreads, double score_threshold, double box_scale,
                               double max_distance, double unmatched_score) {
  const Inputs in{ys, xs, heatmap, regression, offset, boxes, image_sizes};
  const Options o{stride,          candidates, kernel,          sigmoid,   tolerance,    ranking,
                  distance_offset, spreads,    score_threshold, box_scale, max_distance, unmatched_score};
  const Outputs out = check_and_allocate(in, o);
  dispatch_floating(heatmap, "heatmap", [&](auto type) {
    if (out.scores.numel() > 0) run<typename decltype(type)::type>(in, o, out);
  });
  return {out.keypoints, out.scores};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("match_keypoints", TORCH_BOX(&cpu)); }
}  // namespace pyrcnn::match_keypoints
