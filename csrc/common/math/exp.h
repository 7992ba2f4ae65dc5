// exp and log of a float or a pack of floats, with the same bits in every lane width and on every device. The relative
// error is below 2e-7 where the result is normal (Cody and Waite's reductions, Cephes' polynomials). exp returns 0
// below -103.97, inf above 88.72 and NaN for NaN; log returns -inf for 0, and NaN below 0 and for NaN. Doubles use the
// C library.
#pragma once
#include "hd.h"

namespace pyrcnn {

// exp(x) = m * 2^n for x in [-104, 89], with n shifted up by `bias`: its bits are those of the result.
template <typename F> struct Exponential {
  F m, n;
};
template <typename F> PYRCNN_HD Exponential<F> exp_parts(F x, float bias) {
  // Adding 1.5 * 2^23 rounds to an integer; an even bias does not change to which.
  const F magic = F{} + (12582912.0f + bias);
  const F shifted = x * 1.44269504088896341f + magic;
  const F n = shifted - magic;
  const F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  F p = r * 1.3981999507e-3f + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {p * r * r + r + 1.0f, shifted};
}

template <typename F, typename I> PYRCNN_HD F exp_polynomial(F x) {
  const F high = F{} + 89.0f, low = F{} - 104.0f;
  const F inside = x > high ? high : (x < low ? low : x);  // a NaN stays a NaN
  const Exponential<F> e = exp_parts(inside, 0.0f);
  // 2^n as two factors, because n may be as low as -150 and as high as 129.
  const I k = bit_cast<I>(e.n) - 0x4b400000, half = k >> 1;
  const F scale = bit_cast<F>((half + 127) << 23), rest = bit_cast<F>((k - half + 127) << 23);
  return x != x ? x : e.m * scale * rest;
}

// The same bits for x <= kMostBelow, in three quarters of the instructions. The bias of 152 makes the shifted bits
// 2^(n + 25), a normal number, so that only the last product rounds. NaN gives some NaN.
constexpr float kMostBelow = 70.0f;
template <typename F, typename I> PYRCNN_HD F exp_polynomial_below(F x) {
  const F low = F{} - 104.0f;
  const Exponential<F> e = exp_parts(x < low ? low : x, 152.0f);
  return e.m * bit_cast<F>(bit_cast<I>(e.n) << 23) * 0x1p-25f;
}

template <typename F, typename I> PYRCNN_HD F log_polynomial(F x) {
  const F smallest = F{} + 1.17549435e-38f, zero = F{}, infinity = F{} + HUGE_VALF;
  const F scaled = x < smallest ? x * 8388608.0f : x;  // 2^23 lifts the subnormals
  // x = m * 2^n with m in [sqrt(1/2), sqrt(2))
  const I k =
      (bit_cast<I>(scaled) & 0x7fffffff) - 0x3f3504f3;  // without the sign, which would make the subtraction overflow
  const F f = bit_cast<F>((k & 0x007fffff) + 0x3f3504f3) - 1.0f;
  const F magic = F{} + 12582912.0f, lifted = x < smallest ? F{} + 23.0f : zero;
  const F n = bit_cast<F>((k >> 23) + 0x4b400000) - magic - lifted;
  const F z = f * f;
  F p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const F y = p * f * z - n * 2.12194440e-4f - z * 0.5f;
  const F normal = f + y + n * 0.693359375f;
  const F nan = infinity - infinity;
  return x > zero ? (x < infinity ? normal : x) : (x == zero ? zero - infinity : nan);
}

PYRCNN_HD float exp_of(float x) { return exp_polynomial<float, int32_t>(x); }
PYRCNN_HD double exp_of(double x) { return ::exp(x); }
PYRCNN_HD float exp_below(float x) { return exp_polynomial_below<float, int32_t>(x); }
PYRCNN_HD double exp_below(double x) { return ::exp(x); }
PYRCNN_HD float log_of(float x) { return log_polynomial<float, int32_t>(x); }
PYRCNN_HD double log_of(double x) { return ::log(x); }

// For packs. Comparing two packs gives a pack of integers of the same width.
template <typename F> PYRCNN_HD F exp_of(F x) {
  if constexpr (sizeof(x[0]) == sizeof(float)) {
    return exp_polynomial<F, decltype(x < x)>(x);
  } else {
    for (unsigned i = 0; i < sizeof(F) / sizeof(x[0]); ++i) x[i] = ::exp(x[i]);
    return x;
  }
}
template <typename F> PYRCNN_HD F exp_below(F x) {
  if constexpr (sizeof(x[0]) == sizeof(float)) {
    return exp_polynomial_below<F, decltype(x < x)>(x);
  } else {
    return exp_of(x);
  }
}
template <typename F> PYRCNN_HD F log_of(F x) {
  if constexpr (sizeof(x[0]) == sizeof(float)) {
    return log_polynomial<F, decltype(x < x)>(x);
  } else {
    for (unsigned i = 0; i < sizeof(F) / sizeof(x[0]); ++i) x[i] = ::log(x[i]);
    return x;
  }
}

}  // namespace pyrcnn
