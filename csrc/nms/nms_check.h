// The arguments of the suppression ops, checked once for both devices.
#pragma once
#include "../common/tensor.h"

namespace pyrcnn::nms {

constexpr int64_t kMaxBoxes = INT32_MAX;  // per call of nms, per image of nms_padded: indices travel as 32 bits inside

inline void check_same_dtype(const Tensor& scores, const Tensor& boxes) {
  check(scores.scalar_type() == boxes.scalar_type(), "scores must have the dtype of boxes, ",
        torch::headeronly::toString(boxes.scalar_type()), ", got ", torch::headeronly::toString(scores.scalar_type()));
  check_same_device("scores", scores, "boxes", boxes);
}

inline void check_boxes(const Tensor& boxes, const Tensor& scores) {
  check(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must be [M, 4], got ", shape(boxes));
  check(boxes.size(0) <= kMaxBoxes, "boxes must be fewer than 2^31, got ", boxes.size(0));
  check(scores.dim() == 1 && scores.size(0) == boxes.size(0), "scores must be [", boxes.size(0), "] as boxes are ",
        shape(boxes), ", got ", shape(scores));
  check_same_dtype(scores, boxes);
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

inline void check_integers(const char* name, const Tensor& t, const Tensor& boxes) {
  check(is_integer(t), name, " must be integers, got ", torch::headeronly::toString(t.scalar_type()));
  check_same_device(name, t, "boxes", boxes);
}

}  // namespace pyrcnn::nms
