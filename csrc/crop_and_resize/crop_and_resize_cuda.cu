#include "../common/cuda.cuh"
#include "crop_and_resize_check.h"

namespace pyrcnn::crop_and_resize {
namespace {

// What element i of [n, channels, rows, columns] is, in the order of its memory.
struct Place {
  int64_t n, c, y, x;
};
PYRCNN_HD Place place_of(int64_t i, int64_t channels, int64_t rows, int64_t columns, bool channels_last) {
  const int64_t inner = channels_last ? channels : rows * columns, outer = channels_last ? rows * columns : channels;
  const int64_t rest = quotient(i, inner), n = quotient(rest, outer);
  const int64_t a = i - rest * inner, b = rest - n * outer;  // positions within inner and outer
  const int64_t cell = channels_last ? b : a, y = quotient(cell, columns);
  return {n, channels_last ? a : b, y, cell - y * columns};
}

// One element of the crops, in the order of their memory.
template <typename T, typename B> struct Forward {
  using C = compute_t<T>;
  Crops<T, B> crops;
  const T* features;
  T* out;
  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t channels = crops.channels, map = crops.height * crops.width;
    const auto [k, c, y, x] = place_of(i, channels, crops.rows, crops.columns, crops.channels_last);
    C value = crops.outside;
    if (crops.has_image(k)) {
      const Tap<C> row = crops.row(k, y), column = crops.column(k, x);
      if (row.low >= 0 && column.low >= 0) {
        const int64_t step = crops.channels_last ? channels : 1;
        const T* plane = features + crops.images[k] * channels * map + (crops.channels_last ? c : c * map);
        const T *top = plane + row.low * crops.width * step, *bottom = plane + row.high * crops.width * step;
        value = blend(blend(C(top[column.low * step]), C(top[column.high * step]), column.weight),
                      blend(C(bottom[column.low * step]), C(bottom[column.high * step]), column.weight), row.weight);
      }
    }
    out[i] = T(value);
  }
};

// One element of the features' gradient: gathered from the crops in order, so without atomics and always the same sum.
// A sample reaches a cell only if it lies within one cell of it, which leaves few rows and columns of each crop.
template <typename T, typename B> struct Backward {
  using C = compute_t<T>;
  using P = compute_t<B>;
  Crops<T, B> crops;
  const T* grad;
  C* sums;

  // Samples [from, to) that may touch `cell`, generously.
  PYRCNN_HD static void reach(P start, P end, int64_t samples, int64_t size, int64_t cell, int64_t& from, int64_t& to) {
    from = 0, to = samples;
    const P last = P(size - 1), step = samples > 1 ? (end - start) * last / P(samples - 1) : P(0);
    if (!(step > 0 || step < 0)) return;
    const P a = (P(cell - 1) - start * last) / step, b = (P(cell + 1) - start * last) / step;
    const P low = lower(a, b) - P(1), high = higher(a, b) + P(2);
    from = low > P(0) ? (low < P(samples) ? int64_t(low) : samples) : 0;
    to = high < P(samples) ? (high > P(0) ? int64_t(high) : 0) : samples;
  }

  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t channels = crops.channels, crop = crops.rows * crops.columns;
    const int64_t step = crops.channels_last ? channels : 1;
    const auto [n, c, y, x] = place_of(i, channels, crops.height, crops.width, crops.channels_last);
    C sum = C(0);
    for (int64_t k = 0; k < crops.count; ++k) {
      if (crops.images[k] != n) continue;
      const B* box = crops.boxes + 4 * k;
      int64_t top, bottom, left, right;
      reach(P(box[0]), P(box[2]), crops.rows, crops.height, y, top, bottom);
      reach(P(box[1]), P(box[3]), crops.columns, crops.width, x, left, right);
      const T* given = grad + k * channels * crop + (crops.channels_last ? c : c * crop);
      for (int64_t v = top; v < bottom; ++v) {
        const C down = share(crops.row(k, v), y);
        if (down == C(0)) continue;
        for (int64_t u = left; u < right; ++u) {
          const C across = share(crops.column(k, u), x);
          if (across != C(0)) sum += C(given[(v * crops.columns + u) * step]) * down * across;
        }
      }
    }
    sums[i] = sum;
  }
};

Tensor cuda(const Tensor& features, const Tensor& boxes, const Tensor& box_indices, int64_t rows, int64_t columns,
            double extrapolation) {
  const bool channels_last = is_channels_last(features);
  Tensor out = check_and_allocate(features, boxes, box_indices, rows, columns, channels_last);
  const OnDevice on(features);
  const Tensor maps = dense(features), b = as_contiguous(boxes), i = as_contiguous(box_indices);
  dispatch(maps, "features", boxes, [&](auto type, auto box_type) {
    using T = typename decltype(type)::type;
    using B = typename decltype(box_type)::type;
    each(
        on, out.numel(),
        Forward<T, B>{crops<T, B>(maps, out, b, i, channels_last, extrapolation), data<T>(maps), mutable_data<T>(out)});
  });
  return out;
}

Tensor backward_cuda(const Tensor& grad, const Tensor& boxes, const Tensor& box_indices, int64_t images, int64_t height,
                     int64_t width, bool channels_last) {
  Tensor sums = check_and_allocate_backward(grad, boxes, box_indices, images, height, width, channels_last);
  const OnDevice on(grad);
  const Tensor given = in_layout(grad, channels_last);
  const Tensor b = as_contiguous(boxes), i = as_contiguous(box_indices);
  dispatch(given, "grad", boxes, [&](auto type, auto box_type) {
    using T = typename decltype(type)::type;
    using B = typename decltype(box_type)::type;
    each(on, sums.numel(),
         Backward<T, B>{crops<T, B>(sums, grad, b, i, channels_last, 0), data<T>(given),
                        mutable_data<compute_t<T>>(sums)});
  });
  return sums;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("crop_and_resize", TORCH_BOX(&cuda));
  m.impl("_crop_and_resize_backward", TORCH_BOX(&backward_cuda));
}
}  // namespace pyrcnn::crop_and_resize
