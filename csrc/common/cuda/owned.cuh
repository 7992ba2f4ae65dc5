// The gradient of RoIs to their map without atomic additions: a block owns a pixel and gathers what the RoIs contribute
// to it, in ascending order of the RoIs. So the result has the same bits in every run, and scratch memory does not grow
// with the number of RoIs.
#pragma once
#include "cuda.cuh"

namespace pyrcnn {

constexpr int kOwnerThreads = 128;

// What a block owns at a time: a pixel of an image, and one channel per thread. The last channels may be beyond the
// map's.
struct Owned {
  int64_t image, pixel, channel;
  int32_t row, column;
};
__device__ inline Owned owned(int64_t i, int64_t channels, int32_t height, int32_t width) {
  const int64_t groups = ceil_div(channels, kOwnerThreads), size = int64_t(height) * width;
  const int64_t rest = quotient(i, groups), image = quotient(rest, size), pixel = rest - image * size;
  const int64_t row = quotient(pixel, width);
  return {image, pixel, (i - rest * groups) * kOwnerThreads + threadIdx.x, int32_t(row), int32_t(pixel - row * width)};
}
PYRCNN_HD int64_t owners(int64_t images, int64_t channels, int64_t size) {
  return images * size * ceil_div(channels, kOwnerThreads);
}

// Calls visit(k) in all threads of the block, in ascending order, for every k in [0, count) for which touches(k) is
// true. One thread evaluates each touches(k).
template <typename Touches, typename Visit>
__device__ void for_each_touching(int64_t count, const Touches& touches, const Visit& visit) {
  __shared__ unsigned found[kOwnerThreads / 32];
  for (int64_t first = 0; first < count; first += kOwnerThreads) {
    const int64_t k = first + threadIdx.x;
    const unsigned of_warp = __ballot_sync(0xffffffff, k < count && touches(k));
    __syncthreads();  // all have read the last batch
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = of_warp;
    __syncthreads();
    for (int w = 0; w < kOwnerThreads / 32; ++w)
      for (unsigned left = found[w]; left != 0; left &= left - 1) visit(first + 32 * w + __ffs(int(left)) - 1);
  }
}

}  // namespace pyrcnn
