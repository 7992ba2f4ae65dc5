// crop_and_resize: TensorFlow's bilinear crops of normalised boxes (Huang et al. 2017, "Speed/accuracy trade-offs").
#pragma once
#include "common/math/hd.h"

namespace pyrcnn::crop_and_resize {

// A sample on one axis: between cells `low` and `high`, with `weight` for `high`. low is -1 outside the map.
template <typename C> struct Tap {
  int64_t low, high;
  C weight;
};

// P is the type of the boxes' arithmetic. The order of operations is TensorFlow's, because any other order would move
// some samples on the last row to the outside. A NaN is outside.
template <typename C, typename P> PYRCNN_HD Tap<C> tap(P start, P end, int64_t sample, int64_t samples, int64_t size) {
  constexpr int64_t kExact = int64_t(1) << 24;  // float does not hold all integers above
  if constexpr (sizeof(P) == 4)
    if (size > kExact || samples > kExact) return tap<C, double>(double(start), double(end), sample, samples, size);
  const P last = P(size - 1);
  const P step = samples > 1 ? (end - start) * last / P(samples - 1) : P(0);
  const P at = samples > 1 ? start * last + P(sample) * step : P(0.5) * (start + end) * last;
  if (!(at >= 0 && at <= last)) return {-1, -1, C(0)};
  const P low = ::floor(at);
  return {int64_t(low), int64_t(::ceil(at)), C(at - low)};
}

template <typename C> PYRCNN_HD C blend(C from, C to, C weight) { return from + (to - from) * weight; }

// The weight of cell `cell` in a tap.
template <typename C> PYRCNN_HD C share(const Tap<C>& t, int64_t cell) {
  if (t.low < 0) return C(0);
  return (t.low == cell ? C(1) - t.weight : C(0)) + (t.high == cell ? t.weight : C(0));
}

// The feature maps (or their gradient), boxes and crops of one call. Maps and crops have the same memory format.
template <typename T, typename B> struct Crops {
  using C = compute_t<T>;
  using P = compute_t<B>;
  const B* boxes;         // [K, 4]: y1 x1 y2 x2; 1 is the last row or column
  const int64_t* images;  // [K]
  int64_t count, maps, channels, height, width, rows, columns;
  bool channels_last;
  C outside;

  PYRCNN_HD bool has_image(int64_t k) const { return images[k] >= 0 && images[k] < maps && height > 0 && width > 0; }
  PYRCNN_HD Tap<C> row(int64_t k, int64_t i) const {
    return tap<C>(P(boxes[4 * k]), P(boxes[4 * k + 2]), i, rows, height);
  }
  PYRCNN_HD Tap<C> column(int64_t k, int64_t i) const {
    return tap<C>(P(boxes[4 * k + 1]), P(boxes[4 * k + 3]), i, columns, width);
  }
};

}  // namespace pyrcnn::crop_and_resize
