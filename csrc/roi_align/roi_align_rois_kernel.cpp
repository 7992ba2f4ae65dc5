// The gradient of RoIAlign to the RoIs' coordinates. Compiled once per instruction set.
#include "common/simd/pack.h"
#include "roi_align_taps.h"

namespace pyrcnn::roi_align::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;  // packs

namespace {

// The sum over channels of grad * pixel.
template <typename T> PYRCNN_HD compute_t<T> dot(const T* grad, const T* pixel, int64_t channels) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  Pack<C> sums = {};
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) sums = fma(load(grad + c), load(pixel + c), sums);
  C sum = 0;
  for (int i = 0; i < lanes; ++i) sum += sums[i];
  for (; c < channels; ++c) sum += C(grad[c]) * C(pixel[c]);
  return sum;
}

}  // namespace

// Computes `out` (d x1, d y1, d x2, d y2) from `image` [height, width, channels] and `grad` [bins, channels].
template <typename T>
void rois_gradient(const Region<compute_t<T>>& r, const Options& o, compute_t<T> scale, const T* image, int32_t height,
                   int32_t width, int64_t channels, const T* grad, compute_t<T>* out) {
  using C = compute_t<T>;
  C x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  for (int32_t p = 0; p < o.bins_y; ++p) {
    const Range rows = sample_range(r.y, p, height);
    for (int32_t i = rows.first; i < rows.last; ++i) {
      const AxisSample<C> y = axis_sample(sample_at(r.y, p, i), height);
      if (!y.inside) continue;
      const C end_y = sample_fraction(r.y, p, i);
      const T *top = image + int64_t(y.low) * width * channels, *bottom = image + int64_t(y.high) * width * channels;
      for (int32_t q = 0; q < o.bins_x; ++q) {
        const T* g = grad + (int64_t(p) * o.bins_x + q) * channels;
        const Range columns = sample_range(r.x, q, width);
        for (int32_t j = columns.first; j < columns.last; ++j) {
          const AxisSample<C> x = axis_sample(sample_at(r.x, q, j), width);
          if (!x.inside || (x.slope == C(0) && y.slope == C(0))) continue;
          const int64_t left = x.low * channels, right = x.high * channels;
          const C top_left = dot(g, top + left, channels), top_right = dot(g, top + right, channels);
          const C bottom_left = dot(g, bottom + left, channels), bottom_right = dot(g, bottom + right, channels);
          const C by_y =
              y.slope * (x.weight_low * (bottom_left - top_left) + x.weight_high * (bottom_right - top_right));
          const C by_x =
              x.slope * (y.weight_low * (top_right - top_left) + y.weight_high * (bottom_right - bottom_left));
          const C end_x = sample_fraction(r.x, q, j);
          y1 += by_y * (C(1) - end_y), y2 += by_y * end_y;
          x1 += by_x * (C(1) - end_x), x2 += by_x * end_x;
        }
      }
    }
  }
  const C share = scale / (C(higher(r.y.samples, 1)) * C(higher(r.x.samples, 1)));
  out[0] = x1 * share, out[1] = y1 * share, out[2] = x2 * share, out[3] = y2 * share;
}

#define PYRCNN_INSTANTIATE(T)                                                                                        \
  template void rois_gradient(const Region<compute_t<T>>&, const Options&, compute_t<T>, const T*, int32_t, int32_t, \
                              int64_t, const T*, compute_t<T>*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
#undef PYRCNN_INSTANTIATE

}  // namespace pyrcnn::roi_align::PYRCNN_ISA
