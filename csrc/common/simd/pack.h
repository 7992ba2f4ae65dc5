// SIMD packs: PYRCNN_LANES floats, or half as many doubles, that are added, compared and selected like one number. So a
// formula that is a template of its number type works for a number, for a pack and in a CUDA thread.
//
// Packs are the compiler's vector types. The operators +, -, *, /, < and ?: work on them for every instruction set
// (SSE2, AVX2, AVX-512, NEON). The compiler splits a pack that is wider than the registers, so the 16-lane code can be
// tested on every machine. For *_kernel.cpp only, which are compiled once per instruction set inside namespace
// PYRCNN_ISA.
#pragma once
#include "common/math/hd.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if !defined(PYRCNN_LANES) || !defined(PYRCNN_ISA)
#error "pack.h is for *_kernel.cpp, which CMake compiles with PYRCNN_ISA and PYRCNN_LANES"
#endif

namespace pyrcnn::PYRCNN_ISA {

constexpr int kLanes = PYRCNN_LANES;

template <typename C> struct PackOf;
template <> struct PackOf<float> {
  static constexpr int lanes = kLanes;
  using type = float __attribute__((vector_size(4 * kLanes)));
  // What comparing two packs gives: of 64-bit lanes, compilers differ in whether that is long or long long.
  using mask = decltype(type{} < type{});
};
template <> struct PackOf<double> {
  static constexpr int lanes = kLanes / 2;
  using type = double __attribute__((vector_size(4 * kLanes)));
  using mask = decltype(type{} < type{});
};
template <> struct PackOf<int32_t> {
  static constexpr int lanes = kLanes;
  using type = int32_t __attribute__((vector_size(4 * kLanes)));
  using mask = type;
};
template <typename C> using Pack = typename PackOf<C>::type;
template <typename C> using Mask = typename PackOf<C>::mask;
template <typename C> constexpr int lanes_of = PackOf<C>::lanes;

// x - 0 is x for every x, so the compiler computes nothing. 0 + x would turn -0 into 0.
template <typename C> PYRCNN_HD Pack<C> broadcast(C x) { return x - Pack<C>{}; }

template <typename C> PYRCNN_HD Pack<C> load(const C* from) {
  Pack<C> pack;
  memcpy(&pack, from, sizeof pack);
  return pack;
}
template <typename C> PYRCNN_HD void store(C* to, Pack<C> pack) { memcpy(to, &pack, sizeof pack); }

// A pack of floats from half storage, and back (rounded to nearest even).
using Wide = uint32_t __attribute__((vector_size(4 * kLanes)));
// The upper halves of the lanes are x as bfloat16.
PYRCNN_HD Wide round_to_upper(Pack<float> x) {
  const Wide u = bit_cast<Wide>(x), nan = Wide{} + 0x7fc00000u;
  return x != x ? nan : u + 0x7fff + ((u >> 16) & 1);
}
PYRCNN_HD Pack<float> load(const BFloat16* from) {
  using Words = uint16_t __attribute__((vector_size(2 * kLanes)));
  Words words;
  memcpy(&words, from, sizeof words);
#if defined(__AVX512F__) && PYRCNN_LANES == 16
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, bit_cast<__m256i>(words));
  return bit_cast<Pack<float>>(bit_cast<Wide>(wide) << 16);
#else
  return bit_cast<Pack<float>>(__builtin_convertvector(words, Wide) << 16);
#endif
}
PYRCNN_HD void store(BFloat16* to, Pack<float> x) {
  using Words = uint16_t __attribute__((vector_size(2 * kLanes)));
  const Words words = __builtin_convertvector(round_to_upper(x) >> 16, Words);
  memcpy(to, &words, sizeof words);
}
PYRCNN_HD Pack<float> load(const Half* from) {
#if defined(__AVX512F__) && PYRCNN_LANES == 16
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__) && PYRCNN_LANES == 8
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  Pack<float> pack;
  for (int i = 0; i < kLanes; ++i) pack[i] = float(from[i]);
  return pack;
#endif
}
PYRCNN_HD void store(Half* to, Pack<float> x) {
#if defined(__AVX512F__) && PYRCNN_LANES == 16
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__) && PYRCNN_LANES == 8
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes; ++i) to[i] = Half(x[i]);
#endif
}

// Twice as many values as a pack has lanes, in two packs. Which lane holds which value depends on the storage type:
// bfloat16 is cheapest to convert with even places in one pack and odd ones in the other. store_pair() undoes this, so
// it is for arithmetic that treats all lanes alike.
template <typename C> struct PackPair {
  Pack<C> first, second;
};
template <typename T> PYRCNN_HD auto load_pair(const T* from) {
  using C = compute_t<T>;
  return PackPair<C>{load(from), load(from + lanes_of<C>)};
}
template <typename T, typename C> PYRCNN_HD void store_pair(T* to, PackPair<C> pair) {
  store(to, pair.first), store(to + lanes_of<C>, pair.second);
}
PYRCNN_HD PackPair<float> load_pair(const BFloat16* from) {
  Wide words;
  memcpy(&words, from, sizeof words);
  return {bit_cast<Pack<float>>(words << 16), bit_cast<Pack<float>>(words & 0xffff0000u)};
}
PYRCNN_HD void store_pair(BFloat16* to, PackPair<float> pair) {
  const Wide words = round_to_upper(pair.first) >> 16 | (round_to_upper(pair.second) & 0xffff0000u);
  memcpy(to, &words, sizeof words);
}

// a * b + c, rounded once where the instruction set can. For weighted sums only: IoU must have the same bits on every
// device, so box arithmetic never uses it.
PYRCNN_HD Pack<float> fma(Pack<float> a, Pack<float> b, Pack<float> c) {
#if defined(__AVX512F__) && PYRCNN_LANES == 16
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && PYRCNN_LANES == 8
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}
PYRCNN_HD Pack<double> fma(Pack<double> a, Pack<double> b, Pack<double> c) {
#if defined(__AVX512F__) && PYRCNN_LANES == 16
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__) && PYRCNN_LANES == 8
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

// One bit per lane of the result of a comparison, lane 0 lowest.
PYRCNN_HD uint32_t bits(Mask<float> mask) {
#if defined(__AVX512DQ__) && PYRCNN_LANES == 16
  return _mm512_movepi32_mask(bit_cast<__m512i>(mask));
#elif defined(__AVX2__) && PYRCNN_LANES == 8
  return uint32_t(_mm256_movemask_ps(bit_cast<__m256>(mask)));
#elif defined(__AVX2__) && PYRCNN_LANES == 16
  __m256 half[2];
  memcpy(half, &mask, sizeof mask);
  return uint32_t(_mm256_movemask_ps(half[0])) | uint32_t(_mm256_movemask_ps(half[1])) << 8;
#elif defined(__SSE2__) && PYRCNN_LANES == 4
  return uint32_t(_mm_movemask_ps(bit_cast<__m128>(mask)));
#else
  uint32_t result = 0;
  for (int i = 0; i < kLanes; ++i) result |= uint32_t(mask[i] & 1) << i;
  return result;
#endif
}
PYRCNN_HD uint32_t bits(Mask<double> mask) {
#if defined(__AVX512DQ__) && PYRCNN_LANES == 16
  return _mm512_movepi64_mask(bit_cast<__m512i>(mask));
#elif defined(__AVX2__) && PYRCNN_LANES == 8
  return uint32_t(_mm256_movemask_pd(bit_cast<__m256d>(mask)));
#else
  uint32_t result = 0;
  for (int i = 0; i < kLanes / 2; ++i) result |= uint32_t(mask[i] & 1) << i;
  return result;
#endif
}

}  // namespace pyrcnn::PYRCNN_ISA
