// Functions that all threads of a warp, or of a block, call together.
#pragma once
#include <cuda_runtime.h>

#include "common/math/hd.h"

namespace pyrcnn {

constexpr unsigned kFullWarp = 0xffffffffu;

__device__ inline uint32_t or_over_warp(uint32_t x) {
#if __CUDA_ARCH__ >= 800
  return __reduce_or_sync(kFullWarp, x);
#else
  for (int step = 16; step > 0; step /= 2) x |= __shfl_xor_sync(kFullWarp, x, step);
  return x;
#endif
}

// The greatest of a warp's values, in every lane.
template <typename C> __device__ C greatest_over_warp(C value) {
  for (int step = 16; step > 0; step /= 2) value = higher(__shfl_xor_sync(kFullWarp, value, step), value);
  return value;
}

// The sum of all threads' numbers, in all threads of the block. `shared`: one number per warp. Barriers inside and
// after.
__device__ inline int sum_over_block(int x, int* shared) {
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), warps = int(blockDim.x / 32);
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < warps ? shared[lane] : 0;
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  __syncthreads();
  return x;
}

}  // namespace pyrcnn
