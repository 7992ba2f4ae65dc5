// Compiled once per instruction set.
#include "../common/tile.h"
#include "roi_align_taps.h"

namespace pyrcnn::roi_align::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;  // packs

template <typename T>
void read_grad(const T* grad, int64_t bins, int64_t bin_stride, int64_t channels, int64_t channel_stride, T* scratch) {
  if (channel_stride == 1) pixels_to_tile(grad, bin_stride, channels, bins, scratch);
  else planes_to_tile(grad, channel_stride, channels, bins, scratch);
}

template <typename T>
void spread(const Taps<compute_t<T>>& taps, const T* grad, int64_t bin_stride, int64_t width, int64_t first,
            int64_t last, compute_t<T>* tile) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>, packs = kBlock / lanes;
  for (int32_t p = 0; p < taps.bins_y; ++p) {
    for (int32_t i = taps.y.begin[p]; i < taps.y.begin[p + 1]; ++i) {
      const Tap<C> y = taps.y.taps[i];
      if (y.pixel < first || y.pixel >= last) continue;
      C* line = tile + (y.pixel - first) * width * kBlock;
      for (int32_t q = 0; q < taps.bins_x; ++q) {
        const T* from = grad + (int64_t(p) * taps.bins_x + q) * bin_stride;
        Pack<C> value[packs];
        for (int k = 0; k < packs; ++k) value[k] = load(from + k * lanes);
        for (int32_t j = taps.x.begin[q]; j < taps.x.begin[q + 1]; ++j) {
          const Pack<C> weight = broadcast(y.weight * taps.x.taps[j].weight);
          C* to = line + taps.x.taps[j].pixel * int64_t(kBlock);
          for (int k = 0; k < packs; ++k) store(to + k * lanes, fma(weight, value[k], load(to + k * lanes)));
        }
      }
    }
  }
}

template <typename T>
void write_pixels(const compute_t<T>* tile, int64_t pixels, int64_t pixel_stride, int64_t channels,
                  int64_t channel_stride, T* to) {
  if (channel_stride == 1) tile_to_pixels(tile, pixels, channels, to, pixel_stride);
  else tile_to_planes(tile, pixels, channels, to, channel_stride);
}

#define PYRCNN_INSTANTIATE(T)                                                                                   \
  template void read_grad(const T*, int64_t, int64_t, int64_t, int64_t, T*);                                    \
  template void spread(const Taps<compute_t<T>>&, const T*, int64_t, int64_t, int64_t, int64_t, compute_t<T>*); \
  template void write_pixels(const compute_t<T>*, int64_t, int64_t, int64_t, int64_t, T*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
#undef PYRCNN_INSTANTIATE

}  // namespace pyrcnn::roi_align::PYRCNN_ISA
