// Which output element of a RoI operator a CUDA thread computes, and how it loads and stores channels.
#pragma once
#include "cuda.cuh"

namespace pyrcnn {

// `width` channels that are loaded and stored together, in 16 bytes if the layout allows it.
template <typename T, int width> struct alignas(sizeof(T) * width) Packed {
  T value[width];
};

// Stores `width` adjacent values, up to 16 bytes at a time.
template <int width, typename S> __device__ void store(S* to, const S (&values)[width]) {
  constexpr int together = width * sizeof(S) > 16 ? 16 / sizeof(S) : width;
#pragma unroll
  for (int v = 0; v < width; v += together) {
    Packed<S, together> part;
#pragma unroll
    for (int w = 0; w < together; ++w) part.value[w] = values[v + w];
    *reinterpret_cast<Packed<S, together>*>(to + v) = part;
  }
}

// Output element i in memory order: RoI k, bin (p, q), channel c (in NHWC the first of `width`).
struct Element {
  int64_t k, c;
  int32_t p, q;
};
template <bool nhwc, int width>
__device__ Element element(int64_t i, int64_t channels, int32_t bins_y, int32_t bins_x) {
  const int64_t inner = nhwc ? channels / width : int64_t(bins_y) * bins_x;
  const int64_t outer = nhwc ? int64_t(bins_y) * bins_x : channels;
  const int64_t rest = quotient(i, inner), k = quotient(rest, outer);
  const int64_t a = i - rest * inner, b = rest - k * outer;  // positions within inner and outer
  const int64_t bin = nhwc ? b : a, p = quotient(bin, bins_x);
  return {k, nhwc ? a * width : b, int32_t(p), int32_t(bin - p * bins_x)};
}

// Can NHWC tensors of storage type T be read and written 16 bytes at a time?
template <typename T> bool can_pack(const std::vector<Tensor>& tensors, int64_t channels) {
  if (channels % int64_t(16 / sizeof(T)) != 0) return false;
  for (const Tensor& t : tensors)
    if (reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 != 0) return false;
  return true;
}

}  // namespace pyrcnn
