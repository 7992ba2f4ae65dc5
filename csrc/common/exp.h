// exp for a float and for a pack of floats, the same bits in every lane width: relative error below 2e-7 where the
// result is normal; 0 below -103.97, inf above 88.72, NaN for NaN. (Cody and Waite's reduction, a degree-6 polynomial.)
#pragma once
#include "hd.h"

namespace pyrcnn {

template <typename F, typename I> PYRCNN_HD F exp_polynomial(F x) {
  const F high = F{} + 89.0f, low = F{} - 104.0f;
  const F inside = x > high ? high : (x < low ? low : x);  // a NaN stays a NaN
  const F magic = F{} + 12582912.0f;                       // 1.5 * 2^23: adding it rounds to an integer
  const F shifted = inside * 1.44269504088896341f + magic;
  const F n = shifted - magic;
  const F r = (inside - n * 0.693359375f) + n * 2.12194440e-4f;
  F p = r * 1.3981999507e-3f + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^n in two factors, because n may be down to -150 and up to 129
  const I k = bit_cast<I>(shifted) - 0x4b400000, half = k >> 1;
  const F scale = bit_cast<F>((half + 127) << 23), rest = bit_cast<F>((k - half + 127) << 23);
  return x != x ? x : p * scale * rest;
}

PYRCNN_HD float exp_of(float x) { return exp_polynomial<float, int32_t>(x); }
PYRCNN_HD double exp_of(double x) { return ::exp(x); }

}  // namespace pyrcnn
