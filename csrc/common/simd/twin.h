// Two packs as one number, so that a formula that is a template of its number type computes both in step. A long chain
// of dependent instructions, such as exp, has a latency that a processor cannot hide; two independent chains in step
// use it. For *_kernel.cpp only, as pack.h.
#pragma once
#include "box_pack.h"

namespace pyrcnn::PYRCNN_ISA {

// What lower() and higher() of hd.h compute, in one instruction. Compilers do not recognize the minimum if a number is
// a constant.
PYRCNN_HD Pack<float> least(Pack<float> a, Pack<float> b) {
#if defined(__AVX512F__) && PYRCNN_LANES == 16
  return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX2__) && PYRCNN_LANES == 8
  return _mm256_min_ps(a, b);
#elif defined(__SSE2__) && PYRCNN_LANES == 4
  return _mm_min_ps(a, b);
#else
  return lower(a, b);
#endif
}
PYRCNN_HD Pack<float> most(Pack<float> a, Pack<float> b) {
#if defined(__AVX512F__) && PYRCNN_LANES == 16
  return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX2__) && PYRCNN_LANES == 8
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__) && PYRCNN_LANES == 4
  return _mm_max_ps(a, b);
#else
  return higher(a, b);
#endif
}
PYRCNN_HD Pack<double> least(Pack<double> a, Pack<double> b) { return lower(a, b); }
PYRCNN_HD Pack<double> most(Pack<double> a, Pack<double> b) { return higher(a, b); }

template <typename P> struct Twin {
  P a, b;
  friend PYRCNN_HD Twin operator+(const Twin& x, const Twin& y) { return {x.a + y.a, x.b + y.b}; }
  friend PYRCNN_HD Twin operator-(const Twin& x, const Twin& y) { return {x.a - y.a, x.b - y.b}; }
  friend PYRCNN_HD Twin operator*(const Twin& x, const Twin& y) { return {x.a * y.a, x.b * y.b}; }
  friend PYRCNN_HD Twin operator/(const Twin& x, const Twin& y) { return {x.a / y.a, x.b / y.b}; }
  friend PYRCNN_HD Twin operator+(const Twin& x, float y) { return {x.a + y, x.b + y}; }
  friend PYRCNN_HD Twin operator*(const Twin& x, float y) { return {x.a * y, x.b * y}; }
};

template <typename P> PYRCNN_HD Twin<P> both(P x) { return {x, x}; }

template <typename P> PYRCNN_HD Twin<P> lower(const Twin<P>& x, const Twin<P>& y) {
  return {least(x.a, y.a), least(x.b, y.b)};
}
template <typename P> PYRCNN_HD Twin<P> higher(const Twin<P>& x, const Twin<P>& y) {
  return {most(x.a, y.a), most(x.b, y.b)};
}

template <typename P> PYRCNN_HD Twin<P> exp_of(const Twin<P>& x) { return {pyrcnn::exp_of(x.a), pyrcnn::exp_of(x.b)}; }
template <typename P> PYRCNN_HD Twin<P> exp_below(const Twin<P>& x) {
  if constexpr (sizeof(x.a[0]) == sizeof(float)) {
    using I = Mask<float>;
    const P low = P{} - 104.0f;
    const Exponential<Twin<P>> e = exp_parts(higher(Twin<P>{low, low}, x), 152.0f);
    const Twin<P> power{bit_cast<P>(bit_cast<I>(e.n.a) << 23), bit_cast<P>(bit_cast<I>(e.n.b) << 23)};
    return e.m * power * 0x1p-25f;
  } else {
    return exp_of(x);
  }
}

// 2 * boxes_of_span<C> boxes in the order of load_spans(), the first half of them in `a`.
template <typename C, typename T> PYRCNN_HD Span<Twin<Pack<C>>> load_twin_spans(const T* from) {
  const Span<Pack<C>> a = load_spans<C>(from), b = load_spans<C>(from + 2 * lanes_of<C>);
  return {{a.low, b.low}, {a.high, b.high}};
}
template <typename C, typename T> PYRCNN_HD void store_twin_spans(T* to, const Span<Twin<Pack<C>>>& s) {
  store_spans<C>(to, Span<Pack<C>>{s.low.a, s.high.a});
  store_spans<C>(to + 2 * lanes_of<C>, Span<Pack<C>>{s.low.b, s.high.b});
}

}  // namespace pyrcnn::PYRCNN_ISA
