// Selects the k best of a list by one thread block, without sorting: a radix selection over the 96-bit keys of the
// candidates, eight bits at a time. The ranking is a total order, so the result does not depend on the order of the
// list. common/cuda/select_sorted.cuh selects and sorts.
#pragma once
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks {

// Keys are ordered as candidates are: by score, whose bits are ordered because it is positive, then by descending rank,
// which is below 2^32.
struct PeakKey {
  uint64_t high;
  uint32_t low;
};
__device__ __forceinline__ PeakKey key_of(const Candidate<float>& c) {
  return {uint64_t(__float_as_uint(c.score)) << 32, ~uint32_t(c.rank)};
}
__device__ __forceinline__ PeakKey key_of(const Candidate<double>& c) {
  return {uint64_t(__double_as_longlong(c.score)), ~uint32_t(c.rank)};
}
__device__ __forceinline__ bool reaches(const PeakKey& key, const PeakKey& bound) {
  return key.high > bound.high || (key.high == bound.high && key.low >= bound.low);
}
template <typename C> __device__ __forceinline__ C score_of(const PeakKey& key) {
  if constexpr (sizeof(C) == 4) return __uint_as_float(unsigned(key.high >> 32));
  else return __longlong_as_double(static_cast<long long>(key.high));
}

struct RadixSelection {
  unsigned histogram[256];
  unsigned bin, need, size;  // the bin that holds the k-th best; how many of it are wanted; its size
};

// Finds the bin, from the highest down, in which the count reaches `need`; the histogram's sum is at least `need`. The
// threads of the first warp call this.
__device__ __forceinline__ void pick_bin(RadixSelection& s, unsigned need) {
  const int lane = int(threadIdx.x), top = 255 - 8 * lane;
  unsigned own = 0;
  for (int b = 0; b < 8; ++b) own += s.histogram[top - b];
  unsigned through = own;
  for (int step = 1; step < 32; step *= 2) {
    const unsigned other = __shfl_up_sync(0xffffffff, through, step);
    if (lane >= step) through += other;
  }
  unsigned before = through - own;
  if (before >= need || through < need) return;  // all lanes but one
  int bin = top;
  while (before + s.histogram[bin] < need) before += s.histogram[bin--];
  s.bin = unsigned(bin), s.need = need - before, s.size = s.histogram[bin];
}

// The key that exactly the k best candidates reach, of more than k, all of positive score. All threads of the block
// call this; visit(f) calls f with each candidate of a thread's share.
template <typename C, typename Visit>
__device__ PeakKey select_radix(RadixSelection& s, unsigned k, const Visit& visit) {
  PeakKey bound{0, 0}, mask{0, 0};
  unsigned need = k;
  for (int digit = 0; digit < 12; ++digit) {
    if (sizeof(C) == 4 && digit >= 4 && digit < 8) continue;  // a float has four bytes
    const bool in_high = digit < 8;
    const int shift = in_high ? 56 - 8 * digit : 24 - 8 * (digit - 8);
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) s.histogram[i] = 0;
    __syncthreads();
    visit([&](const Candidate<C>& candidate) {
      const PeakKey key = key_of(candidate);
      if ((key.high & mask.high) != bound.high || (key.low & mask.low) != bound.low) return;
      atomicAdd(&s.histogram[((in_high ? key.high : key.low) >> shift) & 255], 1u);
    });
    __syncthreads();
    if (threadIdx.x < 32) pick_bin(s, need);
    __syncthreads();
    if (in_high) bound.high |= uint64_t(s.bin) << shift, mask.high |= uint64_t(255) << shift;
    else bound.low |= uint32_t(s.bin) << shift, mask.low |= uint32_t(255) << shift;
    need = s.need;
    const bool whole = s.size == need;
    __syncthreads();  // before the next round changes `s`
    if (whole) break;
  }
  return bound;
}

}  // namespace pyrcnn::heatmap_peaks
