// Compiled once per instruction set.
#include "common/simd/planes.h"
#include "roi_pool.h"

namespace pyrcnn::roi_pool::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;  // packs

namespace {

// Stores the maximum of one bin, for `packs` packs of channels. It takes the maximum without NaN and separately records
// whether there was a NaN, which is cheaper than a maximum that keeps NaN.
template <int packs, typename T>
PYRCNN_HD void bin_maxima(Cells rows, Cells columns, const T* from, int64_t width, int64_t pixel, T* out) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  Pack<C> best[packs];
  Mask<C> nan[packs] = {};
  for (int k = 0; k < packs; ++k) best[k] = broadcast(C(-HUGE_VAL));
  for (int64_t y = rows.first; y < rows.last; ++y) {
    const T *at = from + (y * width + columns.first) * pixel, *end = from + (y * width + columns.last) * pixel;
    for (; at != end; at += pixel) {
      for (int k = 0; k < packs; ++k) {
        const Pack<C> value = load(at + k * lanes);
        nan[k] |= value != value;
        best[k] = higher(value, best[k]);  // keeps the first of equal values, 0 and -0 among them; ignores NaN
      }
    }
  }
  for (int k = 0; k < packs; ++k) store(out + k * lanes, nan[k] ? broadcast(C(NAN)) : best[k]);
}

// The same, and y * width + x of the maximum if `with_argmax`.
template <int packs, bool with_argmax, typename T, typename I>
PYRCNN_HD void bin_packs(Cells rows, Cells columns, const T* from, int64_t width, int64_t pixel, T* out, I* argmax) {
  if constexpr (!with_argmax) return bin_maxima<packs>(rows, columns, from, width, pixel, out);
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  Pack<C> best[packs];
  Mask<C> where[packs];
  for (int k = 0; k < packs; ++k) {
    best[k] = broadcast(C(-HUGE_VAL));
    where[k] = Mask<C>{} + int32_t(rows.first * width + columns.first);
  }
  for (int64_t y = rows.first; y < rows.last; ++y) {
    for (int64_t x = columns.first; x < columns.last; ++x) {
      const T* at = from + (y * width + x) * pixel;
      for (int k = 0; k < packs; ++k) {
        const Pack<C> value = load(at + k * lanes);
        const Mask<C> better = (value > best[k]) | (value != value);
        best[k] = better ? value : best[k];
        where[k] = better ? Mask<C>{} + int32_t(y * width + x) : where[k];
      }
    }
  }
  for (int k = 0; k < packs; ++k) {
    store(out + k * lanes, best[k]);
    if constexpr (sizeof(C) == sizeof(int32_t)) store(argmax + k * lanes, where[k]);
    else
      for (int i = 0; i < lanes; ++i) argmax[k * lanes + i] = I(where[k][i]);
  }
}

template <typename T, typename I>
PYRCNN_HD void bin_channel(Cells rows, Cells columns, const T* from, int64_t width, int64_t pixel, T* out, I* argmax) {
  using C = compute_t<T>;
  C best = C(-HUGE_VAL);
  int64_t where = rows.first * width + columns.first;
  for (int64_t y = rows.first; y < rows.last; ++y)
    for (int64_t x = columns.first; x < columns.last; ++x) {
      const C value = C(from[(y * width + x) * pixel]);
      if (replaces(value, best)) best = value, where = y * width + x;
    }
  *out = T(best);
  if (argmax) *argmax = I(where);
}

// Pools all channels of all bins. Pixels are `pixel` values apart, output bins `out_bin` values.
template <bool with_argmax, typename T, typename I>
PYRCNN_HD void pool(const Bins& bins, const Shape& s, const T* image, int64_t pixel, int64_t channels, int64_t out_bin,
                    T* out, I* argmax) {
  constexpr int lanes = lanes_of<compute_t<T>>, packs = 4;
  for (int32_t p = 0; p < s.bins_y; ++p) {
    const Cells rows = bins.rows[p];
    for (int32_t q = 0; q < s.bins_x; ++q, out += out_bin, argmax += with_argmax ? out_bin : 0) {
      const Cells columns = bins.columns[q];
      if (rows.last <= rows.first || columns.last <= columns.first) {
        for (int64_t c = 0; c < channels; ++c) out[c] = T(compute_t<T>(0));
        for (int64_t c = 0; with_argmax && c < channels; ++c) argmax[c] = -1;
        continue;
      }
      int64_t c = 0;
      for (; c + packs * lanes <= channels; c += packs * lanes)
        bin_packs<packs, with_argmax>(rows, columns, image + c, s.width, pixel, out + c,
                                      argmax + (with_argmax ? c : 0));
      for (; c + lanes <= channels; c += lanes)
        bin_packs<1, with_argmax>(rows, columns, image + c, s.width, pixel, out + c, argmax + (with_argmax ? c : 0));
      for (; c < channels; ++c)
        bin_channel(rows, columns, image + c, s.width, pixel, out + c, with_argmax ? argmax + c : nullptr);
    }
  }
}

}  // namespace

template <typename T> void pool_nhwc(const Bins& bins, const Shape& s, const T* image, T* out, Places argmax) {
  if (argmax.narrow) pool<true>(bins, s, image, s.channels, s.channels, s.channels, out, argmax.narrow);
  else if (argmax.wide) pool<true>(bins, s, image, s.channels, s.channels, s.channels, out, argmax.wide);
  else pool<false>(bins, s, image, s.channels, s.channels, s.channels, out, static_cast<int32_t*>(nullptr));
}

template <typename T> void load_tile(const T* planes, int64_t pixels, int64_t count, T* tile) {
  planes_to_tile(planes, pixels, count, pixels, tile);
}

template <typename T>
void pool_tile(const Bins& bins, const Shape& s, const T* tile, int64_t count, T* scratch, int32_t* indices, T* out,
               Places argmax) {
  const int64_t per_channel = int64_t(s.bins_y) * s.bins_x;
  // The result is written with a large stride, so its cache lines are prefetched before the maxima are computed.
  for (int64_t i = 0; i < count * per_channel; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(out + i, 1);
  if (argmax.narrow || argmax.wide) {
    pool<true>(bins, s, tile, kBlock, kBlock, kBlock, scratch, indices);
    if (argmax.narrow) tile_to_planes(indices, per_channel, count, argmax.narrow, per_channel);
    else tile_to_planes(indices, per_channel, count, argmax.wide, per_channel);
  } else {
    pool<false>(bins, s, tile, kBlock, kBlock, kBlock, scratch, indices);
  }
  tile_to_planes(scratch, per_channel, count, out, per_channel);
}

#define PYRCNN_INSTANTIATE(T)                                               \
  template void pool_nhwc(const Bins&, const Shape&, const T*, T*, Places); \
  template void load_tile(const T*, int64_t, int64_t, T*);                  \
  template void pool_tile(const Bins&, const Shape&, const T*, int64_t, T*, int32_t*, T*, Places);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
#undef PYRCNN_INSTANTIATE

}  // namespace pyrcnn::roi_pool::PYRCNN_ISA
