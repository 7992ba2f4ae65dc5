// Greedy suppression among 32 boxes, by one warp.
#pragma once
#include "nms/rule.h"
#include "common/cuda/select_sorted.cuh"

namespace pyrcnn::nms {

// By one warp: which of its boxes stay, of those that are not `gone`. `suppressors`: of a lane's box, among lower
// lanes. Each round settles the first open box at least, and most often nearly all.
__device__ inline uint32_t settle(uint32_t gone, uint32_t suppressors) {
  const uint32_t own = 1u << threadIdx.x % 32;
  uint32_t open = ~gone, stay = 0;
  while (open != 0) {
    const bool undecided = (open & own) != 0;
    stay |= __ballot_sync(kFullWarp, undecided && (suppressors & (open | stay)) == 0);
    open = __ballot_sync(kFullWarp, undecided && (suppressors & stay) == 0 && (stay & own) == 0);
  }
  return stay;
}
// Its first `room` bits.
__device__ inline uint32_t first_bits(uint32_t word, int room) {
  return word & __ballot_sync(kFullWarp, __popc(word & ((1u << threadIdx.x % 32) - 1)) < room);
}

__device__ inline uint32_t or_over_warp(uint32_t x) {
#if __CUDA_ARCH__ >= 800
  return __reduce_or_sync(kFullWarp, x);
#else
  for (int step = 16; step > 0; step /= 2) x |= __shfl_xor_sync(kFullWarp, x, step);
  return x;
#endif
}

}  // namespace pyrcnn::nms
