// The arguments of the CPU loops of match_boxes: one image, with its ground truth in the compute type.
#pragma once
#include "match_boxes.h"

namespace pyrcnn::match_boxes {

template <typename C> struct Truth {
  Box<C> box;
  C area;
  int32_t index;  // its row in ground_truth
};

template <typename T> struct Image {
  using C = compute_t<T>;
  const T* anchors;  // [K, 4]
  const Truth<C>* truths;
  const Truth<C>* crowds;
  int64_t truth_count, crowd_count;
  int64_t* matches;  // [K], as states and ious
  int8_t* states;
  C* ious;
  C high, low, crowd_share;
};

}  // namespace pyrcnn::match_boxes
