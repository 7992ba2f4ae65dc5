// The arguments of match_keypoints, checked once for both devices.
#pragma once
#include "common/cpu/results.h"
#include "common/tensor.h"
#include "heatmap_peaks/heatmap_peaks_check.h"
#include "match_keypoints.h"

namespace pyrcnn::match_keypoints {

struct Inputs {
  Tensor ys, xs, heatmap, regression, offset;
  std::optional<Tensor> boxes, image_sizes;
};

struct Options {
  double stride;
  int64_t candidates, kernel;
  bool sigmoid;
  double tolerance;
  int64_t ranking;
  double distance_offset;
  HeaderOnlyArrayRef<double> spreads;
  double score_threshold, box_scale, max_distance, unmatched_score;

  heatmap_peaks::Options peaks() const { return {candidates, kernel, sigmoid, tolerance, true, score_threshold}; }
};

struct Outputs {
  Tensor keypoints, scores;
};

// Checks the arguments and limits `o.candidates` to the cells of a map.
inline Outputs check_and_allocate(const Inputs& in, Options& o) {
  const Tensor& heat = in.heatmap;
  check_tensors("heatmap", heat, "ys", in.ys, "xs", in.xs, "regression", in.regression, "offset", in.offset, "boxes",
                in.boxes, "image_sizes", in.image_sizes);
  check(heat.dim() == 4, "heatmap must be [N, J, H, W], got ", shape(heat));
  const int64_t n = heat.size(0), joints = heat.size(1);
  const auto check_map = [&](const char* name, const Tensor& t, int64_t channels, int64_t or_channels) {
    check(t.dim() == 4 && t.size(0) == n && (t.size(1) == channels || t.size(1) == or_channels) &&
              t.size(2) == heat.size(2) && t.size(3) == heat.size(3),
          name, " must be [", n, ", ", channels, ", ", heat.size(2), ", ", heat.size(3), "], got ", shape(t));
    check(t.scalar_type() == heat.scalar_type(), name, " must have the dtype of heatmap, ", pyrcnn::dtype(heat),
          ", got ", pyrcnn::dtype(t));
  };
  check_map("regression", in.regression, 2 * joints, 2 * joints);
  check_map("offset", in.offset, 2 * joints, 2);
  const auto check_cells = [&](const char* name, const Tensor& t) {
    check(t.scalar_type() == ScalarType::Long, name, " must be int64, got ",
          torch::headeronly::toString(t.scalar_type()));
    check(t.dim() == 2 && t.size(0) == n && t.size(1) == in.ys.size(1), name, " must be [N, k] with N = ", n, ", got ",
          shape(t));
  };
  check(in.ys.dim() == 2, "ys must be [N, k], got ", shape(in.ys));
  check_cells("ys", in.ys);
  check_cells("xs", in.xs);
  const int64_t k = in.ys.size(1);
  const auto dtype = heat.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  if (in.boxes) {
    check(in.boxes->dim() == 3 && in.boxes->size(0) == n && in.boxes->size(1) == k && in.boxes->size(2) == 4,
          "boxes must be [", n, ", ", k, ", 4], got ", shape(*in.boxes));
    check(in.boxes->scalar_type() == dtype, "boxes must be ", torch::headeronly::toString(dtype),
          ", as decode_centers ", "gives them, got ", torch::headeronly::toString(in.boxes->scalar_type()));
  }
  if (in.image_sizes) {
    check(in.image_sizes->dim() == 2 && in.image_sizes->size(0) == n && in.image_sizes->size(1) == 2,
          "image_sizes must be [", n, ", 2], got ", shape(*in.image_sizes));
  }
  check(o.candidates >= 0, "candidates must not be negative, got ", o.candidates);
  o.candidates = lower(o.candidates, heat.size(2) * heat.size(3));
  check(o.ranking >= 0 && o.ranking <= 3, "ranking must be 0 to 3, got ", o.ranking);
  check(o.spreads.empty() || int64_t(o.spreads.size()) == joints, "spreads must be ", joints,
        " numbers, one per joint, ", "got ", o.spreads.size());
  check(Ranking(o.ranking) != Ranking::kGaussian || (in.boxes && (!o.spreads.empty() || joints == 0)),
        "ranking must be 0 to 2 without boxes and spreads, got ", o.ranking);
  check(o.stride > 0, "stride must be positive, got ", o.stride);
  return {fresh_like("ys", heat, {n, k, joints, 2}, dtype), fresh_like("ys", heat, {n, k, joints}, dtype)};
}

// Makes all inputs but the maps contiguous.
inline Inputs make_contiguous(const Inputs& in) {
  const auto plain = [](const Tensor& t) { return as_contiguous(t); };
  Inputs ready = in;
  ready.ys = plain(in.ys), ready.xs = plain(in.xs);
  if (in.boxes) ready.boxes = plain(*in.boxes);
  if (in.image_sizes) ready.image_sizes = plain(*in.image_sizes);
  return ready;
}

inline Strides strides(const Tensor& t) { return {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

// `in` is from make_contiguous(). `peaks` is null if the candidates do not come from find_peaks(). `spreads` are those
// of `o` in the compute type, in memory that the kernel can read, or null.
template <typename T>
Maps<T> maps(const Inputs& in, const Options& o, const heatmap_peaks::Peaks* peaks, const Outputs& out,
             const compute_t<T>* spreads) {
  using C = compute_t<T>;
  Maps<T> m{};
  m.ys = data<int64_t>(in.ys), m.xs = data<int64_t>(in.xs);
  m.regression = data<T>(in.regression), m.offset = data<T>(in.offset);
  m.boxes = in.boxes ? data<C>(*in.boxes) : nullptr;
  if (in.image_sizes) m.image_sizes = numbers(*in.image_sizes, "image_sizes");
  m.spreads = spreads;
  if (peaks != nullptr) {
    m.candidate_scores = data<C>(peaks->scores);
    m.candidate_ys = data<int64_t>(peaks->ys), m.candidate_xs = data<int64_t>(peaks->xs);
  }
  m.keypoints = mutable_data<C>(out.keypoints), m.scores = mutable_data<C>(out.scores);
  m.of_regression = strides(in.regression), m.of_offset = strides(in.offset);
  m.detections = in.ys.size(1), m.joints = in.heatmap.size(1), m.candidates = o.candidates;
  m.height = in.heatmap.size(2), m.width = in.heatmap.size(3);
  m.stride = C(o.stride);
  m.own_offsets = in.offset.size(1) == 2 * m.joints;
  m.rules = {Ranking(o.ranking), C(o.distance_offset), C(o.score_threshold),
             C(o.box_scale),     C(o.max_distance),    C(o.unmatched_score)};
  return m;
}

}  // namespace pyrcnn::match_keypoints
