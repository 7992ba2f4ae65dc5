// What the CUDA kernels of generate_proposals share: the arguments of a batch of images, keys of logits, and clipping
// after suppression.
#pragma once
#include <cub/block/block_scan.cuh>

#include "nms/cuda/problem.cuh"
#include "generate_proposals_check.h"

namespace pyrcnn::generate_proposals {

using nms::scratch_bytes;

constexpr int kDecodeThreads = 512;  // 1024 threads would have 64 registers each, too few for decoding
using BlockScan = cub::BlockScan<int, kDecodeThreads>;

// A segment is one level of one image; its number is image * levels + level.
template <typename T> struct ProposalBatch {
  using C = compute_t<T>;
  Level<T> level[kMaxLevels];
  int64_t first[kMaxLevels + 1];  // anchors of an image before each level
  int64_t levels, images, top, kept_most, most;
  int64_t first_image;  // of this launch
  Rules<C> rules;
  Numbers sizes;
  C min_size, iou_threshold;
  uint64_t* keys;        // [images, anchors], sorted within each segment
  uint32_t* sorted;      // [images, anchors], the anchor's index in its level
  C* boxes;              // [segments, top, 4], the best that pass the filter, best first
  C* scores;             // [segments, top]
  uint32_t* order;       // [segments, top], 0, 1, ...
  int64_t* competitors;  // [segments]
  int64_t* kept;         // [segments, kept_most], ranks
  int64_t* kept_counts;  // [segments]
  C* out_boxes;          // [images, most, 4]
  C* out_scores;         // [images, most]
  int64_t* out_counts;   // [images]

  PYRCNN_HD int64_t anchors() const { return first[levels]; }
  PYRCNN_HD C logit(int64_t image, const Level<T>& l, int64_t position) const {
    return C(l.objectness[image * l.objectness_image + position]);
  }
  PYRCNN_HD C height(int64_t image) const { return sizes.template at<C>(2 * image); }
  PYRCNN_HD C width(int64_t image) const { return sizes.template at<C>(2 * image + 1); }
  PYRCNN_HD ClipLimits<C> limits(int64_t image) const { return {height(image), width(image), min_size}; }
};

// Keys order logits; that of a logit that is not finite is greater than every other.
template <typename C> using LogitKey = decltype(descending_key(C{}));
template <typename C> PYRCNN_HD LogitKey<C> not_finite() { return LogitKey<C>(-1); }
template <typename C> PYRCNN_HD LogitKey<C> finite_key(C score) {
  return score - score == C{} ? descending_key(score) : not_finite<C>();
}

template <typename C> PYRCNN_HD C sigmoid(C logit) { return C(1) / (C(1) + exp_of(-logit)); }

}  // namespace pyrcnn::generate_proposals
