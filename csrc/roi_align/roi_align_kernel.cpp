// Compiled once per instruction set.
#include "common/simd/planes.h"
#include "roi_align_taps.h"

namespace pyrcnn::roi_align::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;  // packs
namespace {

constexpr int kPairs = 4;  // a bin sums eight packs at a time, so that additions do not wait for each other

// Stores the weighted sum of one bin's taps to `to`, for 2 * `pairs` packs of channels from `from` on.
template <int pairs, bool prefetch, typename T>
PYRCNN_HD void bin_pairs(const Tap<compute_t<T>>* y, const Tap<compute_t<T>>* y_end, const Tap<compute_t<T>>* x_begin,
                         const Tap<compute_t<T>>* x_end, const T* from, int64_t row, int64_t pixel, T* to) {
  using C = compute_t<T>;
  constexpr int step = 2 * lanes_of<C>, line_values = 64 / int(sizeof(T));
  PackPair<C> sum[pairs] = {};
  for (; y != y_end; ++y) {
    const T* line = from + y->pixel * row;
    for (const Tap<C>* x = x_begin; x != x_end; ++x) {
      const Pack<C> weight = broadcast(y->weight * x->weight);
      const T* at = line + x->pixel * pixel;
      if constexpr (prefetch) {  // the next channels, which are too far apart for the hardware prefetcher
        for (int ahead = 0; ahead < pairs * step; ahead += line_values) __builtin_prefetch(at + pairs * step + ahead);
      }
      for (int k = 0; k < pairs; ++k) {
        const PackPair<C> value = load_pair(at + k * step);
        sum[k] = {fma(weight, value.first, sum[k].first), fma(weight, value.second, sum[k].second)};
      }
    }
  }
  for (int k = 0; k < pairs; ++k) store_pair(to + k * step, sum[k]);
}

// The same for one pack of channels.
template <typename T>
PYRCNN_HD void bin_pack(const Tap<compute_t<T>>* y, const Tap<compute_t<T>>* y_end, const Tap<compute_t<T>>* x_begin,
                        const Tap<compute_t<T>>* x_end, const T* from, int64_t row, int64_t pixel, T* to) {
  using C = compute_t<T>;
  Pack<C> sum{};
  for (; y != y_end; ++y)
    for (const Tap<C>* x = x_begin; x != x_end; ++x)
      sum = fma(broadcast(y->weight * x->weight), load(from + y->pixel * row + x->pixel * pixel), sum);
  store(to, sum);
}

// Pools all channels of all bins. Pixels are `pixel` values apart, output bins `out_bin` values.
template <bool prefetch, typename T>
PYRCNN_HD void pool(const Taps<compute_t<T>>& taps, const T* image, int64_t width, int64_t pixel, int64_t channels,
                    T* out, int64_t out_bin) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>, step = 2 * lanes;
  const int64_t row = width * pixel;
  for (int32_t p = 0; p < taps.bins_y; ++p) {
    const Tap<C>*y = taps.y.taps + taps.y.begin[p], *y_end = taps.y.taps + taps.y.begin[p + 1];
    for (int32_t q = 0; q < taps.bins_x; ++q, out += out_bin) {
      const Tap<C>*x = taps.x.taps + taps.x.begin[q], *x_end = taps.x.taps + taps.x.begin[q + 1];
      int64_t c = 0;
      for (; c + kPairs * step <= channels; c += kPairs * step)
        bin_pairs<kPairs, prefetch>(y, y_end, x, x_end, image + c, row, pixel, out + c);
      if (c + 2 * step <= channels)
        bin_pairs<2, false>(y, y_end, x, x_end, image + c, row, pixel, out + c), c += 2 * step;
      if (c + step <= channels) bin_pairs<1, false>(y, y_end, x, x_end, image + c, row, pixel, out + c), c += step;
      for (; c + lanes <= channels; c += lanes) bin_pack(y, y_end, x, x_end, image + c, row, pixel, out + c);
      for (; c < channels; ++c) {
        C sum = 0;
        for (const Tap<C>* v = y; v != y_end; ++v)
          for (const Tap<C>* u = x; u != x_end; ++u)
            sum += v->weight * u->weight * C(image[v->pixel * row + u->pixel * pixel + c]);
        out[c] = T(sum);
      }
    }
  }
}

}  // namespace

template <typename T>
void pool_nhwc(const Taps<compute_t<T>>& taps, const T* image, int64_t width, int64_t channels, T* out) {
  pool<true>(taps, image, width, channels, channels, out, channels);
}

template <typename T>
void gather_rows(const T* planes, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t last,
                 T* tile) {
  constexpr int block = line_block<T>;
  planes_to_tile<block>(planes + first * width, height * width, channels, (last - first) * width,
                        tile + first * width * block);
}

template <typename T>
void pool_tile(const Taps<compute_t<T>>& taps, const T* tile, int64_t width, int64_t channels, T* scratch, T* out) {
  constexpr int block = line_block<T>;
  pool<false>(taps, tile, width, block, block, scratch, block);
  const int64_t bins = int64_t(taps.bins_y) * taps.bins_x;
  tile_to_planes<block>(scratch, bins, channels, out, bins);
}

#define PYRCNN_INSTANTIATE(T)                                                           \
  template void pool_nhwc(const Taps<compute_t<T>>&, const T*, int64_t, int64_t, T*);   \
  template void gather_rows(const T*, int64_t, int64_t, int64_t, int64_t, int64_t, T*); \
  template void pool_tile(const Taps<compute_t<T>>&, const T*, int64_t, int64_t, T*, T*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
#undef PYRCNN_INSTANTIATE

}  // namespace pyrcnn::roi_align::PYRCNN_ISA
