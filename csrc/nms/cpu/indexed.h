// An index of two levels over the boxes kept so far. It finds those that may suppress a candidate.
#pragma once
#include "neighbours.h"

namespace pyrcnn::nms {

// Per node of the index, the lowest and highest x, y, w, h (CentreSize) of its boxes: eight rows of `nodes` numbers, a
// multiple of kBundle.
template <typename C> struct NodeBounds {
  C* rows;
  int64_t nodes;
  PYRCNN_HD C* low(int coordinate) const { return rows + 2 * coordinate * nodes; }
  PYRCNN_HD C* high(int coordinate) const { return rows + (2 * coordinate + 1) * nodes; }
};

// Candidate i, if it is kept, is stored in leaf positions[i] / kBundle, and `leaves_per_branch` leaves in a row are a
// branch. Positions along the curve of curve_kernel.cpp bring similar boxes together; any positions give the same
// result.
template <typename C> struct KeptIndex {
  const uint32_t* positions;
  int64_t leaves_per_branch;  // a multiple of kBundle
  BoxBundle<C>* leaves;
  uint32_t* sizes;  // kept boxes of each leaf, 0 at first
  NodeBounds<C> of_leaves, of_branches;
};

}  // namespace pyrcnn::nms
