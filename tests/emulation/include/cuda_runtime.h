// What the CUDA kernels of csrc/ use of CUDA, for the host: threads of a block are fibers that take turns (grid.cpp).
// Included in place of the toolkit's header of the same name.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <source_location>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static thread_local  // blocks that run at the same time have a host thread each

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline constinit thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

enum class Group { kWarp, kBlock };
using Place = std::source_location;
// Waits for the other threads of the group and returns what each of them brought, until the group's next meeting. All
// must come to the same place.
const uint64_t* meet(Group group, uint64_t value, Place place);
// The same for all threads of a grid whose blocks run at the same time.
void meet_grid(Place place);
void run(dim3 grid, dim3 block, bool at_once, size_t argument_bytes, const std::function<void()>& thread);
// Of a grid whose blocks run at the same time. Few, and other than a number of anything, so that blocks get several
// items of work, and unequal ones.
int most_blocks();

template <typename T> uint64_t bits(T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  return word;
}
template <typename T> T from_warp(T value, int lane, Place place) {
  const uint64_t word = meet(Group::kWarp, bits(value), place)[lane];
  std::memcpy(&value, &word, sizeof(T));
  return value;
}
template <typename F> unsigned lanes_where(uint64_t value, Place place, const F& holds) {
  const uint64_t* values = meet(Group::kWarp, value, place);
  unsigned mask = 0;
  for (int lane = 0; lane < 32; ++lane) mask |= unsigned(holds(values[lane])) << lane;
  return mask;
}
inline int count_over_block(bool holds, Place place) {
  const uint64_t* values = meet(Group::kBlock, holds, place);
  int sum = 0;
  for (unsigned i = 0; i < blockDim.x; ++i) sum += int(values[i]);
  return sum;
}

}  // namespace emulation

// Only whole warps meet in csrc/, so masks are not looked at.
#define PYRCNN_HERE emulation::Place place = emulation::Place::current()
inline void __syncthreads(PYRCNN_HERE) { emulation::meet(emulation::Group::kBlock, 0, place); }
inline int __syncthreads_count(int x, PYRCNN_HERE) { return emulation::count_over_block(x, place); }
inline int __syncthreads_and(int x, PYRCNN_HERE) { return emulation::count_over_block(!x, place) == 0; }
inline int __syncthreads_or(int x, PYRCNN_HERE) { return emulation::count_over_block(x, place) != 0; }
inline void __syncwarp(PYRCNN_HERE) { emulation::meet(emulation::Group::kWarp, 0, place); }
template <typename T> T __shfl_sync(unsigned, T x, int lane, PYRCNN_HERE) {
  return emulation::from_warp(x, lane & 31, place);
}
template <typename T> T __shfl_xor_sync(unsigned, T x, int mask, PYRCNN_HERE) {
  return emulation::from_warp(x, int(threadIdx.x % 32) ^ mask, place);
}
template <typename T> T __shfl_up_sync(unsigned, T x, unsigned delta, PYRCNN_HERE) {
  const unsigned lane = threadIdx.x % 32;
  return emulation::from_warp(x, int(lane < delta ? lane : lane - delta), place);
}
template <typename T> T __shfl_down_sync(unsigned, T x, unsigned delta, PYRCNN_HERE) {
  const unsigned lane = threadIdx.x % 32;
  return emulation::from_warp(x, int(lane + delta > 31 ? lane : lane + delta), place);
}
inline unsigned __ballot_sync(unsigned, int x, PYRCNN_HERE) {
  return emulation::lanes_where(x != 0, place, [](uint64_t v) { return v != 0; });
}
inline int __any_sync(unsigned, int x, PYRCNN_HERE) { return __ballot_sync(0, x, place) != 0; }
inline int __all_sync(unsigned, int x, PYRCNN_HERE) { return __ballot_sync(0, !x, place) == 0; }
template <typename T> unsigned __match_any_sync(unsigned, T x, PYRCNN_HERE) {
  const uint64_t own = emulation::bits(x);
  return emulation::lanes_where(own, place, [&](uint64_t v) { return v == own; });
}
#undef PYRCNN_HERE

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline unsigned __float_as_uint(float x) { return unsigned(emulation::bits(x)); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline long long __double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }
inline double __longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }

template <typename T> T atomicAdd(T* at, T x) {
  const T old = *at;
  *at += x;
  return old;
}
inline void __threadfence() {}
template <typename T> T atomicMax(T* at, T x) {
  const T old = *at;
  if (*at < x) *at = x;
  return old;
}
template <typename T> T atomicOr(T* at, T x) {
  const T old = *at;
  *at |= x;
  return old;
}

struct float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float4 atomicAdd(float4* at, float4 by) {
  const float4 old = *at;
  at->x += by.x, at->y += by.y, at->z += by.z, at->w += by.w;
  return old;
}

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0 };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice, cudaMemcpyDeviceToHost };
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  if (bytes > 0) std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

enum cudaDeviceAttr { cudaDevAttrCooperativeLaunch, cudaDevAttrMultiProcessorCount };
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const bool together = std::getenv("PYRCNN_EMULATION_ALONE") == nullptr;
  *value = attribute == cudaDevAttrCooperativeLaunch ? int(together) : emulation::most_blocks();
  return cudaSuccess;
}
template <typename K> cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, K, int, size_t) {
  *blocks = 1;
  return cudaSuccess;
}

enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int cooperative;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
template <typename... P, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  const bool at_once = config->numAttrs == 1 && config->attrs->val.cooperative != 0;
  emulation::run(config->gridDim, config->blockDim, at_once, (sizeof(P) + ... + 0), [&] { kernel(arguments...); });
  return cudaSuccess;
}
