#include "common/cpu/parallel.h"
#include "heatmap_peaks/find_peaks.h"
#include "heatmap_peaks/finder.h"
#include "match_keypoints_check.h"
#include "match_keypoints_kernel.h"

namespace pyrcnn::match_keypoints {
namespace {

constexpr double kNanosecondsPerJoint = 20;   // of one detection
constexpr double kNanosecondsPerPair = 0.15;  // a joint of one detection, and one of its candidates

// Storage for the Detections of all images.
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

// Storage for the Candidates of one joint. Their offsets are prefetched long before match() reads them, because in NCHW
// each number is in a cache line of its own, mostly outside the caches.
template <typename T> class CandidateList {
  using C = compute_t<T>;

 public:
  explicit CandidateList(int64_t most)
      : numbers_(3 * most),
        offsets_(most),
        all_{numbers_.data(), numbers_.data() + most, numbers_.data() + 2 * most, offsets_.data(), 0} {}
  const Candidates<T>& all() const { return all_; }
  void clear() { all_.count = 0; }
  // Must be called in descending order of scores. Returns false if the score is below the threshold.
  bool add(const Maps<T>& maps, int64_t n, int64_t joint, C score, int64_t y, int64_t x) {
    if (!(score >= maps.rules.score_threshold && score > 0)) return false;
    const int64_t m = all_.count++;
    const T* offset = maps.offset_at(n, joint, y, x);
    __builtin_prefetch(offset), __builtin_prefetch(offset + maps.of_offset.c);
    all_.ys[m] = C(y), all_.xs[m] = C(x), all_.scores[m] = score, all_.offsets[m] = offset;
    return true;
  }

 private:
  std::vector<C> numbers_;
  std::vector<const T*> offsets_;
  Candidates<T> all_;
};

// Prefetches a joint's regressions. Must be inlined: GCC removes calls of a function that only prefetches.
template <typename T>
PYRCNN_HD void prefetch_regressions(const Maps<T>& maps, const Detections<T>& detections, int64_t joint) {
  const int64_t step = maps.of_regression.c;
  for (int64_t i = 0; i < maps.detections; ++i) {
    const T* r = detections.regressions[i];
    if (r == nullptr) continue;
    __builtin_prefetch(r + 2 * joint * step), __builtin_prefetch(r + (2 * joint + 1) * step);
  }
}

// In NCHW, finds the peaks of one joint while the prefetched numbers of the joint before come from memory.
template <typename T> void run(const Inputs& inputs, const Options& o, const Outputs& out) {
  using C = compute_t<T>;
  const Inputs in = make_contiguous(inputs);
  const Tensor heatmap = dense(in.heatmap);
  const bool by_joint = !is_channels_last(heatmap) && heatmap.numel() > 0 && o.candidates > 0;
  std::optional<heatmap_peaks::Peaks> peaks;
  if (by_joint) heatmap_peaks::check_arguments(heatmap, o.peaks());
  else peaks = heatmap_peaks::find_peaks(heatmap, o.peaks());
  const std::vector<C> spreads(o.spreads.begin(), o.spreads.end());
  const Maps<T> maps =
      match_keypoints::maps<T>(in, o, peaks ? &*peaks : nullptr, out, spreads.empty() ? nullptr : spreads.data());
  const int64_t images = in.heatmap.size(0), cells = maps.height * maps.width;
  heatmap_peaks::Map<T> map = heatmap_peaks::map_of<T>(heatmap, o.peaks());
  map.channels = 1;
  Around<T> around(maps, images);
  const auto match = PYRCNN_KERNEL(match<T>);
  const double cost = double(maps.detections) * (kNanosecondsPerJoint + double(maps.candidates) * kNanosecondsPerPair);
  const double finding = by_joint ? double(cells) * heatmap_peaks::kNanosecondsPerCell : 0;
  parallel(images * maps.joints, cost + finding, [&](int64_t begin, int64_t end) {
    heatmap_peaks::Finder<T> finder(map, maps.candidates, 1, by_joint ? cells : 0, o.score_threshold);
    // One list is matched while the other is filled.
    CandidateList<T> lists[] = {CandidateList<T>(maps.candidates), CandidateList<T>(maps.candidates)};
    const auto match_one = [&](int64_t i) {
      match(maps, around.of_image(i / maps.joints), i / maps.joints, i % maps.joints, lists[i % 2].all());
    };
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / maps.joints, joint = i % maps.joints;
      CandidateList<T>& list = lists[i % 2];
      list.clear();
      if (by_joint) {
        finder.scan(i, images * maps.joints, 0, cells);
        const int64_t found = heatmap_peaks::sort_best(finder.list(0), finder.count(0), maps.candidates);
        for (int64_t m = 0; m < found; ++m) {
          const auto& [score, cell] = finder.list(0)[m];
          if (const int64_t y = cell / maps.width; !list.add(maps, n, joint, score, y, cell - y * maps.width)) break;
        }
      } else {
        for (int64_t m = i * maps.candidates; m < (i + 1) * maps.candidates; ++m)
          if (!list.add(maps, n, joint, maps.candidate_scores[m], maps.candidate_ys[m], maps.candidate_xs[m])) break;
      }
      prefetch_regressions(maps, around.of_image(n), joint);
      if (i > begin) match_one(i - 1);
    }
    match_one(end - 1);
  });
}

std::tuple<Tensor, Tensor> cpu(const Tensor& ys, const Tensor& xs, const Tensor& heatmap, const Tensor& regression,
                               const Tensor& offset, const std::optional<Tensor>& boxes, double stride,
                               const std::optional<Tensor>& image_sizes, int64_t candidates, int64_t kernel,
                               bool sigmoid, double tolerance, int64_t ranking, double distance_offset,
                               HeaderOnlyArrayRef<double> spreads, double score_threshold, double box_scale,
                               double max_distance, double unmatched_score) {
  const Inputs in{ys, xs, heatmap, regression, offset, boxes, image_sizes};
  Options o{stride,          candidates, kernel,          sigmoid,   tolerance,    ranking,
            distance_offset, spreads,    score_threshold, box_scale, max_distance, unmatched_score};
  const Outputs out = check_and_allocate(in, o);
  dispatch_floating(heatmap, "heatmap", [&](auto type) {
    if (out.scores.numel() > 0) run<typename decltype(type)::type>(in, o, out);
  });
  return {out.keypoints, out.scores};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("match_keypoints", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::match_keypoints
