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
  bool clip_first;
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
  PYRCNN_HD ClipLimits<C> limits(int64_t image) const {
    return limits_before_suppression(clip_first, height(image), width(image), min_size);
  }
};

// Keys order logits; that of a logit that is not finite is greater than every other.
template <typename C> using LogitKey = decltype(descending_key(C{}));
template <typename C> PYRCNN_HD LogitKey<C> not_finite() { return LogitKey<C>(-1); }
template <typename C> PYRCNN_HD LogitKey<C> finite_key(C score) {
  return score - score == C{} ? descending_key(score) : not_finite<C>();
}

template <typename C> PYRCNN_HD C sigmoid(C logit) { return C(1) / (C(1) + exp_of(-logit)); }

// Clips boxes after suppression and closes the gaps that boxes without area leave, in place, with one block per image.
// A chunk is read before it is written, and it is written no further back than where it was read.
template <typename T>
__device__ void clip_in_place(const ProposalBatch<T>& b, int64_t image, int64_t count, BlockScan::TempStorage& shared) {
  using C = compute_t<T>;
  const C height = b.height(image), width = b.width(image);
  C *boxes = b.out_boxes + 4 * image * b.most, *scores = b.out_scores + image * b.most;
  int64_t written = 0;
  for (int64_t start = 0; start < count; start += kDecodeThreads) {
    const int64_t i = start + threadIdx.x;
    Box<C> box{};
    C score{};
    if (i < count) box = {boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]}, score = scores[i];
    const bool fits = i < count && clip_and_filter_last(box, height, width, b.min_size);
    int before = 0, sum = 0;
    BlockScan(shared).ExclusiveSum(int(fits), before, sum);
    __syncthreads();  // all have read
    if (fits) {
      C* to = boxes + 4 * (written + before);
      to[0] = box.x1, to[1] = box.y1, to[2] = box.x2, to[3] = box.y2;
      scores[written + before] = score;
    }
    written += sum;
    __syncthreads();  // all have written, and `shared` is used again
  }
  for (int64_t i = written + threadIdx.x; i < count; i += kDecodeThreads) {
    for (int side = 0; side < 4; ++side) boxes[4 * i + side] = C{};
    scores[i] = C{};
  }
  __syncthreads();
  if (threadIdx.x == 0) b.out_counts[image] = written;
}

}  // namespace pyrcnn::generate_proposals
