// Cooperative launches: all blocks of the kernel run at the same time, so that they can wait for each other. One launch
// replaces several dependent ones, and a CUDA graph holds one node for it.
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

// Every device since Pascal supports cooperative launches, but not every driver does.
inline bool can_run_together() { return device_attribute(cudaDevAttrCooperativeLaunch) != 0; }

// Launches kernel(arguments...) with `blocks` blocks, or as many as can run on the current device at the same time.
// Their number is queried in every call, because a process may be given a part of the device; the query does not wait
// for the device.
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

// Waits until all blocks have called this. Then they can read what the others wrote.
__device__ inline void meet_whole_grid() { cooperative_groups::this_grid().sync(); }

// All threads of a block call this when the block has written `more` of the `total` parts of something. Returns true,
// in all its threads, in the block that completes the total; it can then read what the others wrote. No block waits.
// `arrived` is 0 at first.
__device__ inline bool last_to_arrive(int32_t* arrived, int64_t more, int64_t total) {
  __shared__ bool last;
  __threadfence();  // what each thread wrote becomes visible before the count
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(arrived, int32_t(more)) + int32_t(more) == int32_t(total);
  __syncthreads();
  const bool result = last;  // read before the next call's first barrier
  if (result) __threadfence();
  return result;
}

}  // namespace pyrcnn
