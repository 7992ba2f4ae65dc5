// One warp computes one joint of one detection; its lanes share the candidates.
#include "common/cuda/cuda.cuh"
#include "heatmap_peaks/find_peaks.h"
#include "match_keypoints_check.h"

namespace pyrcnn::match_keypoints {
namespace {

constexpr int kWarp = 32, kMostSpreads = 256;

template <typename C> struct Spreads {
  C values[kMostSpreads];
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    match(Maps<T> maps, const __grid_constant__ Spreads<compute_t<T>> spreads, int64_t count) {
  using C = compute_t<T>;
  if (maps.spreads != nullptr) maps.spreads = spreads.values;
  const int lane = int(threadIdx.x) % kWarp;
  const int64_t warps = int64_t(gridDim.x) * (kThreads / kWarp);
  for (int64_t i = blockIdx.x * int64_t(kThreads / kWarp) + threadIdx.x / kWarp; i < count; i += warps) {
    const int64_t row = quotient(i, maps.joints), joint = i - row * maps.joints;
    const int64_t n = quotient(row, maps.detections), detection = row - n * maps.detections;
    const Search<C> s = maps.search_of(n, detection, joint);
    C top = C(-INFINITY), nearest = C(INFINITY);
    int64_t first = maps.candidates;
    Joint<C> found{C(0), C(0), C(-1)};
    for (int64_t m = lane; m < maps.candidates; m += kWarp) {
      const Joint<C> candidate = maps.candidate(n, joint, m);
      if (!(candidate.score > 0)) break;  // the scores are in descending order
      const C dy = candidate.y - s.y, dx = candidate.x - s.x;
      const C distance = root(dy * dy + dx * dx);
      const C value = rank(s, maps.rules.ranking, distance, candidate.score);
      nearest = lower(distance, nearest);
      if (value > top) top = value, first = m, found = candidate;
    }
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const C other_top = __shfl_xor_sync(0xffffffff, top, step);
      const int64_t other_first = __shfl_xor_sync(0xffffffff, static_cast<long long>(first), step);
      const Joint<C> other{__shfl_xor_sync(0xffffffff, found.y, step), __shfl_xor_sync(0xffffffff, found.x, step),
                           __shfl_xor_sync(0xffffffff, found.score, step)};
      nearest = lower(__shfl_xor_sync(0xffffffff, nearest, step), nearest);
      if (other_top > top || (other_top == top && other_first < first))
        top = other_top, first = other_first, found = other;
    }
    if (lane == 0) maps.write(n, detection, joint, settle(s, maps.rules, found, top, nearest));
  }
}

template <typename T> void run(const OnDevice& on, const Inputs& inputs, const Options& o, const Outputs& out) {
  using C = compute_t<T>;
  const Inputs in = make_contiguous(inputs);
  const heatmap_peaks::Peaks peaks = heatmap_peaks::find_peaks(in.heatmap, o.peaks());
  Spreads<C> spreads{};
  for (size_t i = 0; i < o.spreads.size(); ++i) spreads.values[i] = C(o.spreads[i]);
  // This host pointer only tells that there are spreads. The kernel reads them from its arguments.
  const Maps<T> maps = match_keypoints::maps<T>(in, o, &peaks, out, o.spreads.empty() ? nullptr : spreads.values);
  const int64_t count = out.scores.numel(), blocks = ceil_div(count, kThreads / kWarp);
  launch(on, &match<T>, unsigned(lower(blocks, kMaxBlocks)), kThreads, maps, spreads, count);
}

std::tuple<Tensor, Tensor> cuda(const Tensor& ys, const Tensor& xs, const Tensor& heatmap, const Tensor& regression,
                                const Tensor& offset, const std::optional<Tensor>& boxes, double stride,
                                const std::optional<Tensor>& image_sizes, int64_t candidates, int64_t kernel,
                                bool sigmoid, double tolerance, int64_t ranking, double distance_offset,
                                HeaderOnlyArrayRef<double> spreads, double score_threshold, double box_scale,
                                double max_distance, double unmatched_score) {
  const Inputs in{ys, xs, heatmap, regression, offset, boxes, image_sizes};
  Options o{stride,          candidates, kernel,          sigmoid,   tolerance,    ranking,
            distance_offset, spreads,    score_threshold, box_scale, max_distance, unmatched_score};
  const Outputs out = check_and_allocate(in, o);
  check(spreads.size() <= kMostSpreads, "spreads must be at most ", kMostSpreads, " numbers, got ", spreads.size());
  const OnDevice on(heatmap);
  dispatch_floating(heatmap, "heatmap", [&](auto type) {
    if (out.scores.numel() > 0) run<typename decltype(type)::type>(on, in, o, out);
  });
  return {out.keypoints, out.scores};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("match_keypoints", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::match_keypoints
