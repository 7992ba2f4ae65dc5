// Checks the arguments of match_boxes and allocates its results, for CPU and CUDA alike.
#pragma once
#include <optional>
#include <tuple>

#include "common/allocate.h"
#include "match_boxes.h"

namespace pyrcnn::match_boxes {

using MaybeTensor = std::optional<Tensor>;
using Results = std::tuple<Tensor, Tensor, Tensor>;  // matches, states, ious

struct Sizes {
  int64_t images, anchors, truths;
  bool shared_anchors;
};

inline Sizes check_arguments(const Tensor& anchors, const Tensor& truths, const MaybeTensor& counts,
                             const MaybeTensor& crowd, double high, double low, double crowd_threshold) {
  check_tensors("ground_truth", truths, "anchors", anchors, "counts", counts, "crowd", crowd);
  check(truths.dim() == 3 && truths.size(2) == 4, "ground_truth must be [N, G, 4], got ", shape(truths));
  check((anchors.dim() == 2 || anchors.dim() == 3) && anchors.size(-1) == 4,
        "anchors must be [K, 4] or [N, K, 4], got ", shape(anchors));
  const Sizes s{truths.size(0), anchors.size(-2), truths.size(1), anchors.dim() == 2};
  check(s.shared_anchors || anchors.size(0) == s.images, "anchors must be of ", s.images,
        " images as ground_truth is, got ", shape(anchors));
  check(anchors.scalar_type() == truths.scalar_type(), "anchors must have the dtype of ground_truth, ", dtype(truths),
        ", got ", dtype(anchors));
  if (counts) {
    check(counts->dim() == 1 && counts->size(0) == s.images, "counts must be [", s.images, "], got ", shape(*counts));
    check(counts->scalar_type() == ScalarType::Long, "counts must be int64, got ", dtype(*counts));
  }
  if (crowd) {
    check(crowd->dim() == 2 && crowd->size(0) == s.images && crowd->size(1) == s.truths, "crowd must be [", s.images,
          ", ", s.truths, "], got ", shape(*crowd));
    check(crowd->scalar_type() == ScalarType::Bool, "crowd must be bool, got ", dtype(*crowd));
  }
  check(low <= high, "low must be at most high, got ", low, " and ", high);
  check(crowd_threshold >= 0, "crowd_threshold must not be negative, got ", crowd_threshold);
  return s;
}

inline Results allocate(const Tensor& like, const Sizes& s) {
  const auto iou_type = like.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  return {new_result("anchors", like, {s.images, s.anchors}, ScalarType::Long),
          new_result("anchors", like, {s.images, s.anchors}, ScalarType::Char),
          new_result("anchors", like, {s.images, s.anchors}, iou_type)};
}

}  // namespace pyrcnn::match_boxes
