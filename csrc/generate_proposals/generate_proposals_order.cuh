// Sorts the anchors of each image and level by descending score on CUDA, where many are wanted: one stable radix sort.
#pragma once
#include <cub/device/device_radix_sort.cuh>

#include "generate_proposals_batch.cuh"

namespace pyrcnn::generate_proposals {

template <typename T> __global__ void make_keys(const __grid_constant__ ProposalBatch<T> b) {
  using C = compute_t<T>;
  const int64_t per_image = b.anchors(), total = b.images * per_image;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < total; i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t image = i / per_image, at = i % per_image;
    int64_t l = 0;
    while (at >= b.first[l + 1]) ++l;
    const Level<T>& level = b.level[l];
    const int64_t index = at - b.first[l];
    const uint64_t key = finite_key(b.logit(image, level, level.position(index)));
    // A float32 key has room for the segment, so that one sort orders all segments, whose sizes differ.
    b.keys[i] = sizeof(C) == 4 ? uint64_t(image * b.levels + l) << 32 | key : key;
    b.sorted[i] = uint32_t(index);
  }
}

template <typename T> void sort_all(const OnDevice& on, const Tensor& like, const ProposalBatch<T>& b) {
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
  part(nullptr, bytes, 0, one_sort ? total : per_image);  // sets `bytes`; a level needs no more than an image
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
