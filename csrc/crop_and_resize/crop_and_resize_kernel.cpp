// Compiled once per instruction set.
#include "common/simd/planes.h"
#include "crop_and_resize.h"

namespace pyrcnn::crop_and_resize::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

template <typename T>
void crop_row_last(const T* top, const T* bottom, T* to, const Tap<compute_t<T>>* taps, int64_t columns,
                   int64_t channels, compute_t<T> weight, compute_t<T> outside) {
  using C = compute_t<T>;
  constexpr int64_t lanes = lanes_of<C>;
  for (int64_t x = 0; x < columns; ++x, to += channels) {
    const Tap<C> t = taps[x];
    int64_t c = 0;
    if (t.low < 0) {
      for (; c < channels; ++c) to[c] = T(outside);
      continue;
    }
    const T *tl = top + t.low * channels, *tr = top + t.high * channels;
    const T *bl = bottom + t.low * channels, *br = bottom + t.high * channels;
    const Pack<C> across = broadcast(t.weight), down = broadcast(weight);
    for (; c + lanes <= channels; c += lanes)
      store(to + c, blend(blend(load(tl + c), load(tr + c), across), blend(load(bl + c), load(br + c), across), down));
    for (; c < channels; ++c)
      to[c] = T(blend(blend(C(tl[c]), C(tr[c]), t.weight), blend(C(bl[c]), C(br[c]), t.weight), weight));
  }
}

template <typename T>
void crop_row_first(const T* top, const T* bottom, T* to, const Tap<compute_t<T>>* taps, int64_t columns,
                    compute_t<T> weight, compute_t<T> outside) {
  using C = compute_t<T>;
  for (int64_t x = 0; x < columns; ++x) {
    const Tap<C> t = taps[x];
    to[x] = T(outside);
    if (t.low >= 0)
      to[x] = T(blend(blend(C(top[t.low]), C(top[t.high]), t.weight),
                      blend(C(bottom[t.low]), C(bottom[t.high]), t.weight), weight));
  }
}

template <typename T> void load_tile(const T* planes, int64_t pixels, int64_t count, T* tile) {
  planes_to_tile<line_block<T>>(planes, pixels, count, pixels, tile);
}
template <typename T> void store_tile(const T* tile, int64_t pixels, int64_t count, T* planes) {
  tile_to_planes<line_block<T>>(tile, pixels, count, planes, pixels);
}

template <typename T>
void spread_last(const T* grad, compute_t<T>* top, compute_t<T>* bottom, const Tap<compute_t<T>>* taps, int64_t columns,
                 int64_t channels, int64_t first, int64_t end, compute_t<T> weight) {
  using C = compute_t<T>;
  for (int64_t x = 0; x < columns; ++x, grad += channels) {
    const Tap<C> t = taps[x];
    if (t.low < 0) continue;
    C *tl = top + t.low * channels, *tr = top + t.high * channels;
    C *bl = bottom + t.low * channels, *br = bottom + t.high * channels;
    for (int64_t c = first; c < end; ++c) {
      const C above = C(grad[c]) * (C(1) - weight), below = C(grad[c]) * weight;
      tl[c] += above * (C(1) - t.weight), tr[c] += above * t.weight;
      bl[c] += below * (C(1) - t.weight), br[c] += below * t.weight;
    }
  }
}

#define PYRCNN_INSTANTIATE(T)                                                                                          \
  template void crop_row_last(const T*, const T*, T*, const Tap<compute_t<T>>*, int64_t, int64_t, compute_t<T>,        \
                              compute_t<T>);                                                                           \
  template void crop_row_first(const T*, const T*, T*, const Tap<compute_t<T>>*, int64_t, compute_t<T>, compute_t<T>); \
  template void load_tile(const T*, int64_t, int64_t, T*);                                                             \
  template void store_tile(const T*, int64_t, int64_t, T*);                                                            \
  template void spread_last(const T*, compute_t<T>*, compute_t<T>*, const Tap<compute_t<T>>*, int64_t, int64_t,        \
                            int64_t, int64_t, compute_t<T>);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)

}  // namespace pyrcnn::crop_and_resize::PYRCNN_ISA
