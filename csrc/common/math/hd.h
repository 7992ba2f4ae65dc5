// Basic functions for host and device, and the two half types. Files that are compiled once per instruction set include
// this. An inline function that is not inlined there could be merged by the linker with that of another instruction
// set, so PYRCNN_HD forces inlining, and there is neither torch nor std here.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define PYRCNN_HD __host__ __device__ __forceinline__
#else
#define PYRCNN_HD inline __attribute__((always_inline))
#endif

namespace pyrcnn {

// For numbers and SIMD packs alike. A NaN in `a` gives `b`.
template <typename T> PYRCNN_HD T lower(T a, T b) { return a < b ? a : b; }
template <typename T> PYRCNN_HD T higher(T a, T b) { return a > b ? a : b; }
template <typename T> PYRCNN_HD T clamp(T x, T low, T high) { return lower(higher(x, low), high); }
PYRCNN_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <typename To, typename From> PYRCNN_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// Storage types. They only convert, rounding to nearest even; arithmetic is in float or double.
struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  PYRCNN_HD explicit BFloat16(float x) {
    const uint32_t u = bit_cast<uint32_t>(x);
    bits = uint16_t(x != x ? 0x7fc0 : (u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  PYRCNN_HD explicit operator float() const { return bit_cast<float>(uint32_t(bits) << 16); }
};

struct Half {
  uint16_t bits;
  Half() = default;
  PYRCNN_HD explicit Half(float x) {
#if defined(__CUDA_ARCH__)
    bits = __half_as_ushort(__float2half_rn(x));
#else
    const uint32_t u = bit_cast<uint32_t>(x), magnitude = u & 0x7fffffff;
    uint32_t h;
    if (magnitude >= 0x47800000) {  // 65536 and above, inf, NaN
      h = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
    } else if (magnitude < 0x38800000) {  // subnormal: adding 0.5 rounds at the right bit
      h = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
    } else {
      h = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    }
    bits = uint16_t(h | ((u >> 16) & 0x8000));
#endif
  }
  PYRCNN_HD explicit operator float() const {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(bits));
#else
    const uint32_t sign = uint32_t(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
    uint32_t u;
    if (magnitude >= 0x7c00) {
      u = 0x7f800000 | (magnitude << 13);
    } else if (magnitude >= 0x0400) {
      u = (magnitude << 13) + 0x38000000;
    } else {
      u = bit_cast<uint32_t>(float(magnitude) * 5.9604644775390625e-8f);  // 2^-24
    }
    return bit_cast<float>(u | sign);
#endif
  }
};

// The number type in which a storage type is computed. Everywhere T is the storage type and C = compute_t<T>.
template <typename T> struct Compute {
  using type = float;
};
template <> struct Compute<double> {
  using type = double;
};
template <typename T> using compute_t = typename Compute<T>::type;

}  // namespace pyrcnn
