// The data of the method "by pairs" (by_pairs.h): all candidates in bundles, and the pairs that are found.
#pragma once
#include "neighbours.h"

namespace pyrcnn::nms {

constexpr uint32_t kNoBox = UINT32_MAX;
constexpr int64_t kBins = 4096;  // as many as the keys of sort_along_curve() have values
constexpr int64_t kSpare = 8;    // numbers past the end of a list that a kernel may write

// Per bundle, the lowest and highest x, y, w and h of its boxes (CentreSize), and the same of the ranges of their
// suppressors (Reach): a row of `nodes` numbers, a multiple of kBundle, for each of these kBoundRows bounds. NaN in
// places without a bundle, which therefore meet no other.
constexpr int kBoundRows = 16;
template <typename C> struct BundleBounds {
  C* rows;
  int64_t nodes;
  PYRCNN_HD C* low(int coordinate) const { return rows + coordinate * nodes; }
  PYRCNN_HD C* high(int coordinate) const { return rows + (4 + coordinate) * nodes; }
  PYRCNN_HD C* range_low(int coordinate) const { return rows + (8 + coordinate) * nodes; }
  PYRCNN_HD C* range_high(int coordinate) const { return rows + (12 + coordinate) * nodes; }
};

// All candidates, in bundles along the curve of curve_kernel.cpp. Each group has bundles of its own.
template <typename C> struct BundledBoxes {
  int64_t bundle_count;
  const uint32_t* numbers;  // [bundle_count, kBundle]: candidate in each slot, later its rank; kNoBox in empty slots
  BoxBundle<C>* bundles;    // empty slots are NaN
  BundleBounds<C> bounds;
};

// Two boxes, by rank in score order (better < worse): if `better` is kept, `worse` is suppressed.
struct SuppressingPair {
  uint32_t better, worse;
};

}  // namespace pyrcnn::nms
