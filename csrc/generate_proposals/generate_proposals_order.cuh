// Which anchors are the best of each image and level, on CUDA.
#pragma once
#include <cub/device/device_radix_sort.cuh>

#include "../nms/nms_problem.cuh"
#include "generate_proposals_check.h"

namespace pyrcnn::generate_proposals {

using nms::scratch_bytes;

// A segment is one level of one image: image * levels + level.
template <typename T> struct Batch {
  using C = compute_t<T>;
  Level<T> level[kMaxLevels];
  int64_t first[kMaxLevels + 1];  // anchors of an image before each level
  int64_t levels, images, top, kept_most, most;
  Rules<C> rules;
  Numbers sizes;
  C min_size;
  bool clip_first;
  int64_t first_part[kMaxLevels + 1];  // blocks of `collect` for an image before each level
  nms::Entry<C>* listed;               // [segments, kEntries], in any order
  int32_t* listed_counts;              // [segments], zero at first; more than kEntries where the list was too short
  uint64_t* keys;                      // [images, anchors], sorted within each segment
  uint32_t* sorted;                    // [images, anchors], the anchor's index in its level
  C* boxes;                            // [segments, top, 4], the best that fit, best first
  C* scores;                           // [segments, top]
  uint32_t* order;                     // [segments, top], 0, 1, ...
  int64_t* competitors;                // [segments]
  int64_t* kept;                       // [segments, kept_most], ranks
  int64_t* kept_counts;                // [segments]
  C* out_boxes;                        // [images, most, 4]
  C* out_scores;                       // [images, most]
  int64_t* out_counts;                 // [images]

  PYRCNN_HD int64_t anchors() const { return first[levels]; }
  PYRCNN_HD C logit(int64_t image, const Level<T>& l, int64_t position) const {
    return C(l.objectness[image * l.objectness_image + position]);
  }
};

// What is not finite follows every number.
template <typename C> using Key = decltype(descending_key(C{}));
template <typename C> PYRCNN_HD Key<C> not_finite() { return Key<C>(-1); }
template <typename C> PYRCNN_HD Key<C> finite_key(C score) {
  return score - score == C{} ? descending_key(score) : not_finite<C>();
}

// Few wanted: what reaches a bar, which is guessed from a sample. A wrong guess costs time, never exactness.

constexpr int kCollectThreads = 512, kSample = 4096;
constexpr int64_t kPart = 2048;  // anchors per block
template <typename C> constexpr int64_t kMostListed = nms::kEntries<C> / 2;

// A key that about `wanted` of a level's anchors are before, a little more rather than less. The same in all blocks.
template <typename T>
__device__ Key<compute_t<T>> guess_bar(const Batch<T>& b, const Level<T>& level, int64_t image, int* sums) {
  using C = compute_t<T>;
  constexpr int kOwn = kSample / kCollectThreads;
  const int64_t total = level.anchors();
  Key<C> sample[kOwn];
#pragma unroll
  for (int r = 0; r < kOwn; ++r) {  // multiples of the golden ratio modulo 1 are spread evenly
    const uint32_t at = (threadIdx.x + r * kCollectThreads) * 2654435769u;
    sample[r] = finite_key(b.logit(image, level, int64_t(uint64_t(at) * uint64_t(total) >> 32)));
  }
  const double expected = double(lower(total, b.top) * kSample) / double(total);
  const int64_t rank = int64_t(expected + 3 * sqrt(expected) + 1);
  return nms::search<Key<C>>(0, not_finite<C>(), rank, rank + rank / 8, [&](Key<C> bound) {
    int own = 0;
#pragma unroll
    for (int r = 0; r < kOwn; ++r) own += sample[r] < bound;
    return nms::sum_over_block(own, sums);
  });
}

template <typename T> __global__ void __launch_bounds__(kCollectThreads) collect(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  using nms::kFullWarp;
  __shared__ int sums[32];
  const int64_t parts = b.first_part[b.levels], image = blockIdx.x / parts, at = blockIdx.x % parts;
  int64_t l = 0;
  while (at >= b.first_part[l + 1]) ++l;
  const Level<T>& level = b.level[l];
  const int64_t segment = image * b.levels + l, anchors = level.anchors();
  const Key<C> bar = anchors > nms::kEntries<C> ? guess_bar(b, level, image, sums) : not_finite<C>();
  const int64_t begin = (at - b.first_part[l]) * kPart, end = lower(begin + kPart, anchors);
  const int lane = int(threadIdx.x % 32);
  for (int64_t start = begin; start < end; start += kCollectThreads) {
    const int64_t i = start + threadIdx.x;
    const Key<C> key = i < end ? finite_key(b.logit(image, level, i)) : not_finite<C>();
    const bool listed = key < bar;
    const uint32_t all = __ballot_sync(kFullWarp, listed);
    int place = 0;
    if (lane == 0 && all != 0) place = atomicAdd(b.listed_counts + segment, __popc(all));
    place = __shfl_sync(kFullWarp, place, 0) + __popc(all & ((1u << lane) - 1));
    if (listed && place < nms::kEntries<C>)
      b.listed[segment * nms::kEntries<C> + place] = nms::Entry<C>::of_key(key, uint32_t(level.index(i)));
  }
}

// Many wanted: one stable radix sort of all anchors by image and level, then score.

template <typename T> __global__ void make_keys(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  const int64_t per_image = b.anchors(), total = b.images * per_image;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < total; i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t image = i / per_image, at = i % per_image;
    int64_t l = 0;
    while (at >= b.first[l + 1]) ++l;
    const Level<T>& level = b.level[l];
    const int64_t index = at - b.first[l];
    const uint64_t key = finite_key(b.logit(image, level, level.position(index)));
    // Levels differ in size, so in float32, where there is room, the segment is part of the key and one sort does all.
    b.keys[i] = sizeof(C) == 4 ? uint64_t(image * b.levels + l) << 32 | key : key;
    b.sorted[i] = uint32_t(index);
  }
}

template <typename T> void sort_all(const OnDevice& on, const Tensor& like, const Batch<T>& b) {
  constexpr bool one_sort = sizeof(compute_t<T>) == 4;
  const int64_t per_image = b.anchors(), total = b.images * per_image;
  launch(on, &make_keys<T>, unsigned(lower(ceil_div(total, kThreads), kMaxBlocks)), kThreads, b);
  const Tensor other_keys = scratch_bytes(like, 8 * total), other_sorted = scratch_bytes(like, 4 * total);
  int bits = 64;
  if (one_sort)
    for (bits = 32; (b.images * b.levels - 1) >> (bits - 32) != 0;) ++bits;
  const auto part = [&](void* storage, size_t& bytes, int64_t begin, int64_t size) {
    cub::DoubleBuffer<uint64_t> keys(b.keys + begin, mutable_data<uint64_t>(other_keys));
    cub::DoubleBuffer<uint32_t> sorted(b.sorted + begin, mutable_data<uint32_t>(other_sorted));
    STD_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(storage, bytes, keys, sorted, size, 0, bits, on.stream));
    if (storage == nullptr) return;
    const auto bring = [&](void* to, const void* from, int64_t count) {
      if (to != from) STD_CUDA_CHECK(cudaMemcpyAsync(to, from, count, cudaMemcpyDeviceToDevice, on.stream));
    };
    bring(b.keys + begin, keys.Current(), 8 * size);
    bring(b.sorted + begin, sorted.Current(), 4 * size);
  };
  size_t bytes = 0;
  part(nullptr, bytes, 0, one_sort ? total : per_image);  // tells how much it needs: a level no more than an image
  const Tensor storage = scratch_bytes(like, int64_t(bytes) + 1);
  if constexpr (one_sort) {
    part(storage.mutable_data_ptr(), bytes, 0, total);
  } else {
    for (int64_t image = 0; image < b.images; ++image)
      for (int64_t l = 0; l < b.levels; ++l)
        if (b.first[l + 1] > b.first[l])
          part(storage.mutable_data_ptr(), bytes, image * per_image + b.first[l], b.first[l + 1] - b.first[l]);
  }
}

}  // namespace pyrcnn::generate_proposals
