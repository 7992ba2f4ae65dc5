// The k best of a list by one thread block: a radix selection over the candidates' 128-bit keys, eight bits at a time.
// The ranking is a total order, so the set does not depend on the order of the list.
#pragma once
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks {

// Ordered as candidates are: by score (positive, so its bits are ordered as it is), then by descending rank.
struct Key {
  uint64_t high, low;
};
__device__ __forceinline__ Key key_of(const Candidate<float>& c) {
  return {uint64_t(__float_as_uint(c.score)) << 32, ~uint64_t(c.rank)};
}
__device__ __forceinline__ Key key_of(const Candidate<double>& c) {
  return {uint64_t(__double_as_longlong(c.score)), ~uint64_t(c.rank)};
}
__device__ __forceinline__ bool reaches(const Key& key, const Key& bound) {
  return key.high > bound.high || (key.high == bound.high && key.low >= bound.low);
}
template <typename C> __device__ __forceinline__ C score_of(const Key& key) {
  if constexpr (sizeof(C) == 4) return __uint_as_float(unsigned(key.high >> 32));
  else return __longlong_as_double(static_cast<long long>(key.high));
}

struct Selection {
  unsigned histogram[256];
  unsigned bin, need, size;  // of the bin that holds the k-th best: how many of it are wanted, how many it has
};

// By the first warp: the bin, from the highest down, in which the count reaches `need`, which the histogram's sum does.
__device__ __forceinline__ void pick_bin(Selection& s, unsigned need) {
  const int lane = int(threadIdx.x), top = 255 - 8 * lane;
  unsigned own = 0;
  for (int b = 0; b < 8; ++b) own += s.histogram[top - b];
  unsigned through = own;
  for (int step = 1; step < 32; step *= 2) {
    const unsigned other = __shfl_up_sync(0xffffffff, through, step);
    if (lane >= step) through += other;
  }
  unsigned before = through - own;
  if (before >= need || through < need) return;  // true for all lanes but one
  int bin = top;
  while (before + s.histogram[bin] < need) before += s.histogram[bin--];
  s.bin = unsigned(bin), s.need = need - before, s.size = s.histogram[bin];
}

// The key that exactly the k best of get(0), ..., get(count - 1) reach; candidates of score 0 do not count, and more
// than k do. Called by all threads of the block.
template <typename C, typename Get> __device__ Key select(Selection& s, int64_t count, unsigned k, const Get& get) {
  Key bound{0, 0}, mask{0, 0};
  unsigned need = k;
  for (int digit = 0; digit < 16; ++digit) {
    if (sizeof(C) == 4 && digit >= 4 && digit < 8) continue;  // a float has four bytes
    const int shift = 56 - 8 * (digit % 8);
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) s.histogram[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
      const Candidate<C> candidate = get(i);
      if (!(candidate.score > 0)) continue;
      const Key key = key_of(candidate);
      if ((key.high & mask.high) != bound.high || (key.low & mask.low) != bound.low) continue;
      atomicAdd(&s.histogram[((digit < 8 ? key.high : key.low) >> shift) & 255], 1u);
    }
    __syncthreads();
    if (threadIdx.x < 32) pick_bin(s, need);
    __syncthreads();
    (digit < 8 ? bound.high : bound.low) |= uint64_t(s.bin) << shift;
    (digit < 8 ? mask.high : mask.low) |= uint64_t(255) << shift;
    need = s.need;
    const bool whole = s.size == need;
    __syncthreads();  // before the next round changes `s`
    if (whole) break;
  }
  return bound;
}

}  // namespace pyrcnn::heatmap_peaks
