// The order in which rows are visited, for many rows on CUDA: by descending score, equal scores by lower row, rows that
// do not compete last. CUB's radix sort is stable.
#pragma once
#include <cub/device/device_radix_sort.cuh>

#include "problem.cuh"

namespace pyrcnn::nms {

// Keys of float scores are the image, then whether the row does not compete, then the score; one sort orders all
// images. Keys of double scores are the score alone, or all ones for a row that does not compete, which no score's key
// is; each image is sorted by itself.
template <typename C> constexpr bool kOneSort = sizeof(C) == 4;

template <typename T> struct MakeKeys {
  Problem<T> p;
  uint64_t* keys;
  uint32_t* rows;
  __device__ void operator()(int64_t i) const {
    using C = compute_t<T>;
    const int64_t image = i / p.rows, row = i % p.rows;
    const bool competes = p.competes(image, row);
    const uint64_t key = descending_key(C(p.scores[i]));
    if constexpr (kOneSort<C>) keys[i] = uint64_t(image) << 33 | uint64_t(!competes) << 32 | key;
    else keys[i] = competes ? key : UINT64_MAX;
    rows[i] = uint32_t(row);
  }
};

// Counts the competitors of each image by a binary search in its sorted keys.
template <typename T> struct CountCompetitors {
  Problem<T> p;
  const uint64_t* keys;
  __device__ void operator()(int64_t image) const {
    const uint64_t end = kOneSort<compute_t<T>> ? uint64_t(image) << 33 | uint64_t{1} << 32 : UINT64_MAX;
    const uint64_t* sorted = keys + image * p.rows;
    int64_t low = 0, high = p.rows;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (sorted[middle] < end) low = middle + 1;
      else high = middle;
    }
    p.competitors[image] = low;
  }
};

template <typename T> void order_many_rows(const OnDevice& on, const Tensor& like, const Problem<T>& p) {
  constexpr bool one_sort = kOneSort<compute_t<T>>;
  const int64_t total = p.images * p.rows, per_sort = one_sort ? total : p.rows;
  const Tensor keys = scratch_bytes(like, 8 * total), other_keys = scratch_bytes(like, 8 * per_sort);
  const Tensor other_rows = scratch_bytes(like, 4 * per_sort);
  uint64_t* key_data = mutable_data<uint64_t>(keys);
  each(on, total, MakeKeys<T>{p, key_data, p.order});

  int bits = 64;
  if (one_sort)
    for (bits = 33; (p.images - 1) >> (bits - 33) != 0;) ++bits;
  Tensor temporary;
  size_t temporary_bytes = 0;
  for (int64_t first = 0; first < total; first += per_sort) {
    cub::DoubleBuffer<uint64_t> sorted_keys(key_data + first, mutable_data<uint64_t>(other_keys));
    cub::DoubleBuffer<uint32_t> sorted_rows(p.order + first, mutable_data<uint32_t>(other_rows));
    const auto sort = [&](void* storage) {
      STD_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(storage, temporary_bytes, sorted_keys, sorted_rows, per_sort, 0,
                                                     bits, on.stream));
    };
    if (first == 0) {
      sort(nullptr);  // sets temporary_bytes
      temporary = scratch_bytes(like, int64_t(temporary_bytes) + 1);
    }
    sort(temporary.mutable_data_ptr());
    const auto bring = [&](void* to, const void* from, int64_t bytes) {
      if (to != from) STD_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, on.stream));
    };
    bring(key_data + first, sorted_keys.Current(), 8 * per_sort);
    bring(p.order + first, sorted_rows.Current(), 4 * per_sort);
  }
  each(on, p.images, CountCompetitors<T>{p, key_data});
}

// Sets p.order and p.competitors, and the outputs to what they are if nothing is kept.
template <typename T> void order_rows(const OnDevice& on, const Tensor& like, const Problem<T>& p) {
  set_bytes(on, p.counts, 0, 8 * p.images);
  set_bytes(on, p.indices, 0xff, 8 * p.images * p.max_output);  // -1
  order_many_rows(on, like, p);
}

}  // namespace pyrcnn::nms
