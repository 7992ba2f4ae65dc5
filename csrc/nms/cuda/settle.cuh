// Greedy suppression among 32 boxes, by one warp.
#pragma once
#include "common/cuda/warp.cuh"
#include "nms/rule.h"

namespace pyrcnn::nms {

// Which of the warp's boxes are kept, a bit each. A lane passes in `suppressors` the lower lanes whose boxes would
// suppress its own; boxes in `gone` are suppressed already. Every round settles at least the first open box, and
// usually nearly all.
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
// The lowest `room` of the word's bits that are 1.
__device__ inline uint32_t first_bits(uint32_t word, int room) {
  return word & __ballot_sync(kFullWarp, __popc(word & ((1u << threadIdx.x % 32) - 1)) < room);
}

}  // namespace pyrcnn::nms
