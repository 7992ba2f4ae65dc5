// Compiled once per instruction set.
#include <type_traits>

#include "common/simd/planes.h"
#include "roi_align_taps.h"

namespace pyrcnn::roi_align::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;  // packs

template <typename T>
void read_grad(const T* grad, int64_t bins, int64_t bin_stride, int64_t channels, int64_t channel_stride, T* scratch) {
  if (channel_stride == 1) pixels_to_tile(grad, bin_stride, channels, bins, scratch);
  else planes_to_tile(grad, channel_stride, channels, bins, scratch);
}

// `channels` is a number, or a constant that lets the compiler remove multiplications.
template <typename T, typename Count>
PYRCNN_HD void spread_channels(const Taps<compute_t<T>>& taps, const T* grad, int64_t bin_stride, Count channels,
                               int64_t width, int64_t first, int64_t last, compute_t<T>* to) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>, packs = kBlock / lanes;
  for (int32_t p = 0; p < taps.bins_y; ++p) {
    for (int32_t i = taps.y.begin[p]; i < taps.y.begin[p + 1]; ++i) {
      const Tap<C> y = taps.y.taps[i];
      if (y.pixel < first || y.pixel >= last) continue;
      C* line = to + (y.pixel - first) * width * channels;
      for (int32_t q = 0; q < taps.bins_x; ++q) {
        const T* from = grad + (int64_t(p) * taps.bins_x + q) * bin_stride;
        for (int64_t c = 0; c < channels; c += kBlock) {
          Pack<C> value[packs];
          for (int k = 0; k < packs; ++k) value[k] = load(from + c + k * lanes);
          for (int32_t j = taps.x.begin[q]; j < taps.x.begin[q + 1]; ++j) {
            const Pack<C> weight = broadcast(y.weight * taps.x.taps[j].weight);
            C* at = line + taps.x.taps[j].pixel * channels + c;
            for (int k = 0; k < packs; ++k) store(at + k * lanes, fma(weight, value[k], load(at + k * lanes)));
          }
        }
      }
    }
  }
}

template <typename T>
void spread(const Taps<compute_t<T>>& taps, const T* grad, int64_t bin_stride, int64_t channels, int64_t width,
            int64_t first, int64_t last, compute_t<T>* to) {
  constexpr std::integral_constant<int64_t, kBlock> one_block{};
  if (channels == kBlock) spread_channels(taps, grad, bin_stride, one_block, width, first, last, to);
  else spread_channels(taps, grad, bin_stride, channels, width, first, last, to);
}

template <typename T>
void write_pixels(const compute_t<T>* tile, int64_t pixels, int64_t pixel_stride, int64_t channels,
                  int64_t channel_stride, T* to) {
  if (channel_stride == 1) tile_to_pixels(tile, pixels, channels, to, pixel_stride);
  else tile_to_planes(tile, pixels, channels, to, channel_stride);
}

#define PYRCNN_INSTANTIATE(T)                                                                            \
  template void read_grad(const T*, int64_t, int64_t, int64_t, int64_t, T*);                             \
  template void spread(const Taps<compute_t<T>>&, const T*, int64_t, int64_t, int64_t, int64_t, int64_t, \
                       compute_t<T>*);                                                                   \
  template void write_pixels(const compute_t<T>*, int64_t, int64_t, int64_t, int64_t, T*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
#undef PYRCNN_INSTANTIATE

}  // namespace pyrcnn::roi_align::PYRCNN_ISA
