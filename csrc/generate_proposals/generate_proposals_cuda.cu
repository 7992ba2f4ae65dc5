// Everything of a fixed shape, so that one CUDA graph holds it: (1) one stable radix sort of all anchors by image and
// level, then score; (2) one block per image and level decodes the best and closes the gaps of those that do not fit;
// (3) suppression, each image and level a group of its own (nms_suppress.cuh); (4) a merge of the levels by binary
// search.
#include <cub/block/block_scan.cuh>
#include <cub/device/device_radix_sort.cuh>

#include "../nms/nms_order.cuh"
#include "../nms/nms_suppress.cuh"
#include "generate_proposals_check.h"

namespace pyrcnn::generate_proposals {
namespace {

using nms::scratch_bytes;

constexpr int kDecodeThreads = 1024;

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
  uint64_t* keys;        // [images, anchors], sorted within each segment
  uint32_t* sorted;      // [images, anchors], the anchor's index in its level
  C* boxes;              // [segments, top, 4], the best that fit, best first
  C* scores;             // [segments, top]
  uint32_t* order;       // [segments, top], 0, 1, ...
  int64_t* competitors;  // [segments]
  int64_t* kept;         // [segments, kept_most], ranks
  int64_t* kept_counts;  // [segments]
  C* out_boxes;          // [images, most, 4]
  C* out_scores;         // [images, most]
  int64_t* out_counts;   // [images]

  PYRCNN_HD int64_t anchors() const { return first[levels]; }
};

// What is not finite follows every number.
template <typename C> PYRCNN_HD auto finite_key(C score) {
  const auto key = descending_key(score);
  return score - score == C{} ? key : decltype(key)(-1);
}

template <typename T> __global__ void make_keys(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  const int64_t per_image = b.anchors(), total = b.images * per_image;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < total; i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t image = i / per_image, at = i % per_image;
    int64_t l = 0;
    while (at >= b.first[l + 1]) ++l;
    const Level<T>& level = b.level[l];
    const int64_t index = at - b.first[l];
    const uint64_t key = finite_key(C(level.objectness[image * level.objectness_image + level.position(index)]));
    // Levels differ in size, so in float32, where there is room, the segment is part of the key and one sort does all.
    b.keys[i] = sizeof(C) == 4 ? uint64_t(image * b.levels + l) << 32 | key : key;
    b.sorted[i] = uint32_t(index);
  }
}

template <typename T> void sort(const OnDevice& on, const Tensor& like, const Batch<T>& b) {
  constexpr bool one_sort = sizeof(compute_t<T>) == 4;
  const int64_t per_image = b.anchors(), total = b.images * per_image;
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

template <typename T>
__global__ void __launch_bounds__(kDecodeThreads) decode_best(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  using Scan = cub::BlockScan<int, kDecodeThreads>;
  __shared__ typename Scan::TempStorage shared;
  const int64_t segment = blockIdx.x, image = segment / b.levels, l = segment % b.levels;
  const Level<T>& level = b.level[l];
  const int64_t begin = image * b.anchors() + b.first[l], anchors = b.first[l + 1] - b.first[l];
  const int64_t count = anchors < b.top ? anchors : b.top;
  const Window<C> window =
      first_window(b.clip_first, b.sizes.template at<C>(2 * image), b.sizes.template at<C>(2 * image + 1), b.min_size);
  int64_t written = 0;  // the same in all threads
  for (int64_t start = 0; start < count; start += kDecodeThreads) {
    const int64_t i = start + threadIdx.x;
    bool fits = false;
    Box<C> box{};
    C logit{};
    if (i < count) {
      const uint32_t index = b.sorted[begin + i];
      logit = C(level.objectness[image * level.objectness_image + level.position(index)]);
      const AnchorDelta<C> one = anchor_delta(level, b.rules, image, index);
      box = decode(one.anchor, one.delta, b.rules.cap);
      fits = fit(box, window) && logit - logit == C{};
    }
    int before = 0, sum = 0;
    Scan(shared).ExclusiveSum(int(fits), before, sum);
    if (fits) {
      const int64_t rank = written + before, at = segment * b.top + rank;
      C* to = b.boxes + 4 * at;
      to[0] = box.x1, to[1] = box.y1, to[2] = box.x2, to[3] = box.y2;
      b.scores[at] = C(1) / (C(1) + exp_of(-logit));
      b.order[at] = uint32_t(rank);
    }
    written += sum;
    __syncthreads();  // `shared` is used again
  }
  if (threadIdx.x == 0) b.competitors[segment] = written;
}

// The score of the i-th kept box of a segment.
template <typename T> __device__ compute_t<T> kept_score(const Batch<T>& b, int64_t segment, int64_t i) {
  return b.scores[segment * b.top + b.kept[segment * b.kept_most + i]];
}

// A kept box's place among all levels of its image: its own rank, and of every other level how many go before it; equal
// scores go by level. grid (kept boxes of an image, images)
template <typename T> __global__ void merge(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  const int64_t element = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (element >= b.levels * b.kept_most) return;
  const int64_t l = element / b.kept_most, i = element % b.kept_most;
  for (int64_t image = blockIdx.y; image < b.images; image += gridDim.y) {
    const int64_t segment = image * b.levels + l;
    if (element == 0) {
      int64_t sum = 0;
      for (int64_t other = 0; other < b.levels; ++other) sum += b.kept_counts[image * b.levels + other];
      b.out_counts[image] = sum < b.most ? sum : b.most;
    }
    if (i >= b.kept_counts[segment]) continue;
    const C score = kept_score(b, segment, i);
    int64_t place = i;
    for (int64_t other = 0; other < b.levels && place < b.most; ++other) {
      if (other == l) continue;
      int64_t low = 0, high = b.kept_counts[image * b.levels + other];
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        const C rival = kept_score(b, image * b.levels + other, middle);
        if (other < l ? rival >= score : rival > score) low = middle + 1;
        else high = middle;
      }
      place += low;
    }
    if (place >= b.most) continue;
    const C* from = b.boxes + 4 * (segment * b.top + b.kept[segment * b.kept_most + i]);
    C* to = b.out_boxes + 4 * (image * b.most + place);
    for (int side = 0; side < 4; ++side) to[side] = from[side];
    b.out_scores[image * b.most + place] = score;
  }
}

// Clips what was suppressed unclipped, and closes the gaps that boxes without area leave: one block per image, in
// place. A chunk is read before it is written, and never written behind where it was read.
template <typename T> __global__ void __launch_bounds__(kDecodeThreads) clip_last(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  using Scan = cub::BlockScan<int, kDecodeThreads>;
  __shared__ typename Scan::TempStorage shared;
  const int64_t image = blockIdx.x, count = b.out_counts[image];
  const C height = b.sizes.template at<C>(2 * image), width = b.sizes.template at<C>(2 * image + 1);
  C *boxes = b.out_boxes + 4 * image * b.most, *scores = b.out_scores + image * b.most;
  int64_t written = 0;
  for (int64_t start = 0; start < count; start += kDecodeThreads) {
    const int64_t i = start + threadIdx.x;
    Box<C> box{};
    C score{};
    if (i < count) box = {boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]}, score = scores[i];
    const bool fits = i < count && fit_last(box, height, width, b.min_size);
    int before = 0, sum = 0;
    Scan(shared).ExclusiveSum(int(fits), before, sum);
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

template <typename T> void run(const OnDevice& on, const Arguments& a, const Outputs& to) {
  using C = compute_t<T>;
  const Tensor& like = a.objectness[0];
  Batch<T> b{};
  for (int64_t l = 0; l < a.levels; ++l) {
    b.level[l] = level<T>(a, l);
    const int64_t anchors = b.level[l].anchors();
    b.first[l + 1] = b.first[l] + anchors;
    const int64_t top = anchors < a.pre_nms_top_n ? anchors : a.pre_nms_top_n;
    b.top = b.top < top ? top : b.top;
  }
  b.levels = a.levels, b.images = a.images, b.most = a.post_nms_top_n;
  b.kept_most = b.top < b.most ? b.top : b.most;
  b.rules = rules<C>(a), b.sizes = numbers(a.image_sizes, "image_sizes");
  b.min_size = C(a.min_size), b.clip_first = a.clip_first;
  b.out_boxes = mutable_data<C>(to.boxes), b.out_scores = mutable_data<C>(to.scores);
  b.out_counts = mutable_data<int64_t>(to.counts);
  if (b.images == 0) return;
  const int64_t segments = b.images * b.levels, rows = segments * b.top, total = b.images * b.anchors();
  STD_CUDA_CHECK(cudaMemsetAsync(b.out_counts, 0, 8 * b.images, on.stream));
  if (b.most == 0) return;
  STD_CUDA_CHECK(cudaMemsetAsync(b.out_boxes, 0, 4 * sizeof(C) * b.images * b.most, on.stream));
  STD_CUDA_CHECK(cudaMemsetAsync(b.out_scores, 0, sizeof(C) * b.images * b.most, on.stream));
  if (b.top == 0) return;

  const Tensor keys = scratch_bytes(like, 8 * total), sorted = scratch_bytes(like, 4 * total);
  const Tensor boxes = scratch_bytes(like, 4 * int64_t(sizeof(C)) * rows);
  const Tensor scores = scratch_bytes(like, int64_t(sizeof(C)) * rows), order = scratch_bytes(like, 4 * rows);
  const Tensor kept = scratch_bytes(like, 8 * segments * b.kept_most);
  const Tensor competitors = scratch_bytes(like, 8 * segments), kept_counts = scratch_bytes(like, 8 * segments);
  b.keys = mutable_data<uint64_t>(keys), b.sorted = mutable_data<uint32_t>(sorted);
  b.boxes = mutable_data<C>(boxes), b.scores = mutable_data<C>(scores), b.order = mutable_data<uint32_t>(order);
  b.kept = mutable_data<int64_t>(kept);
  b.competitors = mutable_data<int64_t>(competitors), b.kept_counts = mutable_data<int64_t>(kept_counts);

  const int64_t blocks = ceil_div(total, kThreads);
  launch(on, &make_keys<T>, unsigned(blocks < kMaxBlocks ? blocks : kMaxBlocks), kThreads, b);
  sort(on, like, b);
  launch(on, &decode_best<T>, unsigned(segments), kDecodeThreads, b);

  nms::Problem<C> problem{};
  problem.boxes = b.boxes, problem.images = segments, problem.rows = b.top, problem.max_output = b.kept_most;
  problem.iou_threshold = C(a.nms_threshold), problem.all_compete = true;
  problem.indices = b.kept, problem.counts = b.kept_counts, problem.order = b.order,
  problem.competitors = b.competitors;
  STD_CUDA_CHECK(cudaMemsetAsync(b.kept_counts, 0, 8 * segments, on.stream));
  nms::suppress(on, like, problem);

  const dim3 grid(unsigned(ceil_div(b.levels * b.kept_most, kThreads)),
                  unsigned(b.images < kMaxBlocks ? b.images : kMaxBlocks));
  launch(on, &merge<T>, grid, kThreads, b);
  if (b.clip_first) return;
  launch(on, &clip_last<T>, unsigned(b.images), kDecodeThreads, b);
}

std::tuple<Tensor, Tensor, Tensor> cuda(const Tensors& objectness, const Tensors& deltas, const Tensors& cell_anchors,
                                        Reals strides, const Tensor& image_sizes, int64_t pre_nms_top_n,
                                        int64_t post_nms_top_n, double nms_threshold, double min_size, Reals weights,
                                        double clip, double offset, bool clip_first) {
  const Arguments a = check_arguments(objectness, deltas, cell_anchors, strides, image_sizes, pre_nms_top_n,
                                      post_nms_top_n, nms_threshold, min_size, weights, clip, offset, clip_first);
  const OnDevice on(a.objectness[0]);
  const Outputs to = allocate(a);
  dispatch_floating(a.objectness[0], "objectness", [&](auto type) { run<typename decltype(type)::type>(on, a, to); });
  return {to.boxes, to.scores, to.counts};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("generate_proposals", TORCH_BOX(&cuda)); }
}  // namespace pyrcnn::generate_proposals
