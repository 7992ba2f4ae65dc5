// Checks the arguments of roi_detections and allocates its outputs, for CPU and CUDA alike.
#pragma once
#include <tuple>

#include "common/cpu/results.h"
#include "roi_detections.h"

namespace pyrcnn::roi_detections {

using Reals = HeaderOnlyArrayRef<double>;

struct Arguments {
  Tensor class_logits, box_deltas, proposals, counts, image_sizes;  // contiguous
  int64_t images, rows, columns, background, max_detections, max_per_class;
  double score_threshold, nms_threshold, clip, min_size;
  std::vector<double> weights;
};

struct Outputs {
  Tensor boxes, scores, labels, counts;
};

inline Arguments check_arguments(const Tensor& class_logits, const Tensor& box_deltas, const Tensor& proposals,
                                 const Tensor& counts, const Tensor& image_sizes, double score_threshold,
                                 double nms_threshold, int64_t max_detections, Reals weights, double clip,
                                 double min_size, bool background_first, int64_t max_per_class) {
  check_tensors("class_logits", class_logits, "box_deltas", box_deltas, "proposals", proposals, "counts", counts,
                "image_sizes", image_sizes);
  check(class_logits.dim() == 3 && class_logits.size(2) >= 1, "class_logits must be [N, P, C + 1], got ",
        shape(class_logits));
  const int64_t n = class_logits.size(0), p = class_logits.size(1), columns = class_logits.size(2), c = columns - 1;
  const auto fits = [&](int64_t width) { return width == 4 || width == 4 * c || width == 4 * columns; };
  check(box_deltas.dim() == 3 && box_deltas.size(0) == n && box_deltas.size(1) == p && fits(box_deltas.size(2)),
        "box_deltas must be [", n, ", ", p, ", 4, ", 4 * c, " or ", 4 * columns, "] as class_logits are ",
        shape(class_logits), ", got ", shape(box_deltas));
  check(proposals.dim() == 3 && proposals.size(0) == n && proposals.size(1) == p && proposals.size(2) == 4,
        "proposals must be [", n, ", ", p, ", 4] as class_logits are ", shape(class_logits), ", got ",
        shape(proposals));
  check(counts.dim() == 1 && counts.size(0) == n, "counts must be [", n, "], got ", shape(counts));
  check(image_sizes.dim() == 2 && image_sizes.size(0) == n && image_sizes.size(1) == 2, "image_sizes must be [", n,
        ", 2], got ", shape(image_sizes));
  check(weights.size() == 4, "weights must be 4 numbers, got ", weights.size());
  check(max_detections >= 0, "max_detections must not be negative, got ", max_detections);
  check(max_per_class >= 0, "max_per_class must not be negative, got ", max_per_class);
  check(p * columns < INT32_MAX, "class_logits must have fewer than 2^31 scores an image, got ", shape(class_logits));
  const auto dense = [](const Tensor& t) { return as_contiguous(t); };
  return {dense(class_logits),
          dense(box_deltas),
          dense(proposals),
          dense(counts),
          dense(image_sizes),
          n,
          p,
          columns,
          background_first ? 0 : c,
          max_detections,
          max_per_class,
          score_threshold,
          nms_threshold,
          clip,
          min_size,
          {weights.begin(), weights.end()}};
}

// Boxes and scores have the compute type: float32, or float64 for float64 logits.
inline Outputs allocate(const Arguments& a) {
  const auto dtype = a.class_logits.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const auto make = [&](std::initializer_list<int64_t> sizes, ScalarType type) {
    return fresh_like("max_detections", a.class_logits, sizes, type);
  };
  return {make({a.images, a.max_detections, 4}, dtype), make({a.images, a.max_detections}, dtype),
          make({a.images, a.max_detections}, ScalarType::Long), make({a.images}, ScalarType::Long)};
}

template <typename C> Head<C> head(const Arguments& a) {
  const int64_t width = a.box_deltas.size(2), classes = a.columns - 1;
  const bool shared = width == 4, with_background = !shared && width == 4 * a.columns;
  return {numbers(a.box_deltas, "box_deltas"),
          numbers(a.proposals, "proposals"),
          a.rows,
          classes,
          width,
          with_background && a.background == 0 ? 4 : 0,
          shared ? 0 : 4,
          {C(a.weights[0]), C(a.weights[1]), C(a.weights[2]), C(a.weights[3])},
          C(a.clip)};
}

template <typename C> Cut<C> cut(const Arguments& a) {
  const C threshold = C(a.score_threshold);
  return {threshold, threshold > C{} ? C(std::log(threshold)) : C(-INFINITY)};
}

}  // namespace pyrcnn::roi_detections
