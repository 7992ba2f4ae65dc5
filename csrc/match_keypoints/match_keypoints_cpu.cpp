#include "../heatmap_peaks/find_peaks.h"
#include "match_keypoints_check.h"
#include "match_keypoints_kernel.h"

namespace pyrcnn::match_keypoints {
namespace {

constexpr double kNanosecondsPerJoint = 20, kNanosecondsPerPair = 0.15;  // a detection's joint, and each candidate

// What the joints of every detection share.
template <typename T> class Around {
  using C = compute_t<T>;

 public:
  Around(const Maps<T>& maps, int64_t images)
      : padded_(ceil_div(maps.detections, 32) * 32),
        regressions_(images * padded_),
        fields_(images * kFields * padded_) {
    for (int64_t n = 0; n < images; ++n) {
      const Detections<T> to = of_image(n);
      for (int64_t i = 0; i < maps.detections; ++i) {
        to.regressions[i] = maps.regression_of(n, i);
        const Search<C> s = maps.search_around(n, i);
        to.around.y[i] = s.y, to.around.x[i] = s.x;
        to.around.area.x1[i] = s.area.x1, to.around.area.y1[i] = s.area.y1;
        to.around.area.x2[i] = s.area.x2, to.around.area.y2[i] = s.area.y2;
        to.around.reach[i] = s.reach, to.around.addend[i] = s.addend, to.around.sigma[i] = s.sigma;
      }
    }
  }
  Detections<T> of_image(int64_t n) {
    const auto field = [&](int64_t i) { return fields_.data() + (n * kFields + i) * padded_; };
    return {regressions_.data() + n * padded_,
            {field(0), field(1), {field(2), field(3), field(4), field(5)}, field(6), field(7), field(8)}};
  }

 private:
  static constexpr int64_t kFields = 9;
  int64_t padded_;
  std::vector<const T*> regressions_;
  std::vector<C> fields_;
};

template <typename T> void run(const Inputs& inputs, const Options& o, const Outputs& out) {
  using C = compute_t<T>;
  const Inputs in = prepared(inputs);
  const heatmap_peaks::Peaks peaks = heatmap_peaks::find_peaks(in.heatmap, o.peaks());
  const std::vector<C> spreads(o.spreads.begin(), o.spreads.end());
  const Maps<T> maps = match_keypoints::maps<T>(in, o, peaks, out, spreads.empty() ? nullptr : spreads.data());
  const int64_t images = in.heatmap.size(0);
  Around<T> around(maps, images);
  const auto match = PYRCNN_KERNEL(match<T>);
  const double cost = double(maps.detections) * (kNanosecondsPerJoint + double(maps.candidates) * kNanosecondsPerPair);
  parallel(images * maps.joints, cost, [&](int64_t begin, int64_t end) {
    std::vector<C> scratch(3 * maps.candidates);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / maps.joints;
      match(maps, around.of_image(n), n, i % maps.joints, scratch.data());
    }
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
