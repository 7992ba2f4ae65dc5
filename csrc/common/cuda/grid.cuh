// Kernels whose blocks all run at the same time (cooperative launches), so that they can wait for each other: what
// would be several dependent launches is one, and a graph holds one node of it.
#pragma once
#include <cooperative_groups.h>

#include "cuda.cuh"

namespace pyrcnn {

inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  STD_CUDA_CHECK(cudaGetDevice(&device));
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

// Every device since Pascal can, but not under every driver.
inline bool can_run_together() { return device_attribute(cudaDevAttrCooperativeLaunch) != 0; }

// kernel(arguments...) by as many of `blocks` blocks as fit on the current device at the same time. That is asked at
// every call, as a process may be given a part of the device; it waits for nothing.
template <typename... P, typename... A>
void launch_together(const OnDevice& on, void (*kernel)(P...), int64_t blocks, int threads, const A&... arguments) {
  int per_multiprocessor = 0;
  STD_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, threads, 0));
  const int64_t most = int64_t(per_multiprocessor) * device_attribute(cudaDevAttrMultiProcessorCount);
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative, together.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(lower(blocks, most))), config.blockDim = dim3(unsigned(threads));
  config.stream = on.stream, config.attrs = &together, config.numAttrs = 1;
  STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
}

// Waits until all blocks have come here; what they wrote can be read then.
__device__ inline void meet_whole_grid() { cooperative_groups::this_grid().sync(); }

// Called by all threads of a block when it has written `more` of the `total` parts of something: true in the last block
// to do so, in all its threads; it can read what the others wrote. Nobody waits. `arrived` was 0 at first.
__device__ inline bool last_to_arrive(int32_t* arrived, int64_t more, int64_t total) {
  __shared__ bool last;
  __threadfence();  // each thread: what it wrote is visible before the count is
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(arrived, int32_t(more)) + int32_t(more) == int32_t(total);
  __syncthreads();
  const bool result = last;  // read before the next call's first barrier
  if (result) __threadfence();
  return result;
}

}  // namespace pyrcnn
