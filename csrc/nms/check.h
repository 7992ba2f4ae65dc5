// Checks the arguments of nms, batched_nms and nms_padded, for CPU and CUDA alike.
#pragma once
#include <optional>

#include "common/allocate.h"

namespace pyrcnn::nms {

// Boxes of one call of nms, or of one image of nms_padded: the kernels index them with 32 bits.
constexpr int64_t kMaxBoxes = INT32_MAX;

inline void check_scores(const Tensor& scores, const Tensor& boxes) {
  check(scores.dim() == boxes.dim() - 1 && scores.sizes().equals(boxes.sizes().slice(0, scores.dim())),
        "scores must have one number per box of ", shape(boxes), ", got ", shape(scores));
  check(scores.scalar_type() == boxes.scalar_type(), "scores must have the dtype of boxes, ",
        torch::headeronly::toString(boxes.scalar_type()), ", got ", torch::headeronly::toString(scores.scalar_type()));
}

inline bool is_integer(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Long:
    case ScalarType::Int:
    case ScalarType::Short:
    case ScalarType::Char:
    case ScalarType::Byte:
    case ScalarType::Bool: return true;
    default: return false;
  }
}

// A contiguous int64 copy, or `t` itself if it is one.
inline Tensor to_int64(const Tensor& t) { return as_contiguous(as_type(t, ScalarType::Long)); }

inline Tensor check_integers(const char* name, const Tensor& t) {
  check(is_integer(t), name, " must be integers, got ", torch::headeronly::toString(t.scalar_type()));
  return to_int64(t);
}

inline void check_nms(const Tensor& boxes, const Tensor& scores) {
  check_tensors("boxes", boxes, "scores", scores);
  check(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must be [K, 4], got ", shape(boxes));
  check(boxes.size(0) <= kMaxBoxes, "boxes must be fewer than 2^31, got ", boxes.size(0));
  check_scores(scores, boxes);
}

// Returns idxs as contiguous int64.
inline Tensor check_batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs) {
  check_nms(boxes, scores);
  check_tensors("boxes", boxes, "idxs", idxs);
  check(idxs.dim() == 1 && idxs.size(0) == boxes.size(0), "idxs must be [", boxes.size(0), "] as boxes are ",
        shape(boxes), ", got ", shape(idxs));
  return check_integers("idxs", idxs);
}

// The contiguous arguments of nms_padded, and its outputs.
struct Padded {
  Tensor boxes, scores, groups, valid;  // groups [N, K] and valid [N] are int64, undefined if not given
  Tensor indices, counts;               // [N, max_output], [N]
  int64_t images, rows, max_output;
};

inline Padded check_nms_padded(const Tensor& boxes, const Tensor& scores, int64_t max_output,
                               const std::optional<Tensor>& groups, const std::optional<Tensor>& valid) {
  check_tensors("boxes", boxes, "scores", scores, "groups", groups, "valid", valid);
  check(boxes.dim() == 3 && boxes.size(2) == 4, "boxes must be [N, K, 4], got ", shape(boxes));
  check(boxes.size(1) <= kMaxBoxes, "boxes must be fewer than 2^31 per image, got ", boxes.size(1));
  check_scores(scores, boxes);
  check(max_output >= 0, "max_output must not be negative, got ", max_output);
  Padded p;
  p.images = boxes.size(0), p.rows = boxes.size(1), p.max_output = max_output;
  if (groups) {
    check(groups->sizes().equals(scores.sizes()), "groups must be ", shape(scores), " as scores are, got ",
          shape(*groups));
    p.groups = check_integers("groups", *groups);
  }
  if (valid) {
    check(valid->dim() == 1 && valid->size(0) == p.images, "valid must be [", p.images, "], got ", shape(*valid));
    p.valid = check_integers("valid", *valid);
  }
  p.boxes = as_contiguous(boxes), p.scores = as_contiguous(scores);
  p.indices = new_result("max_output", boxes, {p.images, max_output}, ScalarType::Long);
  p.counts = new_result("boxes", boxes, {p.images}, ScalarType::Long);
  return p;
}

}  // namespace pyrcnn::nms
