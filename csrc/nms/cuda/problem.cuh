// The arguments of the CUDA kernels of nms, batched_nms and nms_padded: a batch of images.
#pragma once
#include "common/cuda/cuda.cuh"
#include "common/cuda/warp.cuh"
#include "common/math/score_key.h"
#include "nms/rule.h"

namespace pyrcnn::nms {

template <typename T> struct Problem {
  using C = compute_t<T>;
  const T* boxes;         // [images, rows, 4]
  const T* scores;        // [images, rows]
  const int64_t* groups;  // [images, rows] or null: one group
  const int64_t* valid;   // [images] or null: all rows
  int64_t images, rows, max_output;
  C iou_threshold, score_threshold;
  bool all_compete;      // every row competes (nms, batched_nms); else valid rows whose score exceeds the threshold
  int64_t* indices;      // [images, max_output], result
  int64_t* counts;       // [images], result; in chunks.cuh the number of boxes kept so far
  uint32_t* order;       // [images, rows], scratch: rows of each image by descending score
  int64_t* competitors;  // [images], scratch: so many rows of `order`, the first ones, compete

  __device__ bool competes(int64_t image, int64_t row) const {
    if (all_compete) return true;
    return (valid == nullptr || row < valid[image]) && C(scores[image * rows + row]) > score_threshold;
  }
  __device__ int64_t row_at(int64_t image, int64_t rank) const { return order[image * rows + rank]; }
  __device__ Box<C> box(int64_t image, int64_t row) const {
    const T* b = boxes + 4 * (image * rows + row);
    return {C(b[0]), C(b[1]), C(b[2]), C(b[3])};
  }
  __device__ int64_t group(int64_t image, int64_t row) const { return groups ? groups[image * rows + row] : 0; }
};

// Images are processed in batches whose bit matrices take at most this much memory.
constexpr int64_t kMatrixBytes = int64_t{32} << 20;

// Scratch memory from torch's allocator, so that a CUDA graph can capture this.
inline Tensor scratch_bytes(const Tensor& like, int64_t bytes) {
  return torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
}

}  // namespace pyrcnn::nms
