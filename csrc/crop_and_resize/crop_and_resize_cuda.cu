#include "common/cuda/bins.cuh"
#include "crop_and_resize_check.h"

namespace pyrcnn::crop_and_resize {
namespace {

// Part i of [n, channels, rows, columns] in memory order. A part is `width` channels of a pixel in NHWC and one channel
// of a pixel in NCHW.
struct Place {
  int64_t n, c, y, x;
};
template <int width>
__device__ Place place_of(int64_t i, int64_t channels, int64_t rows, int64_t columns, bool channels_last) {
  const int64_t parts = channels / width, cells = rows * columns;
  const int64_t inner = channels_last ? parts : cells, outer = channels_last ? cells : parts;
  const int64_t rest = quotient(i, inner), n = quotient(rest, outer);
  const int64_t a = i - rest * inner, b = rest - n * outer;  // positions within inner and outer
  const int64_t cell = channels_last ? b : a, y = quotient(cell, columns);
  return {n, (channels_last ? a : b) * width, y, cell - y * columns};
}

// Computes a part of the crops.
template <typename T, typename B, int width> struct Forward {
  using C = compute_t<T>;
  Crops<T, B> crops;
  const T* features;
  T* out;
  __device__ void operator()(int64_t i) const {
    const int64_t channels = crops.channels, map = crops.height * crops.width;
    const auto [k, c, y, x] = place_of<width>(i, channels, crops.rows, crops.columns, crops.channels_last);
    Packed<T, width> result;
#pragma unroll
    for (int v = 0; v < width; ++v) result.value[v] = T(crops.outside);
    if (crops.has_image(k)) {
      const Tap<C> row = crops.row(k, y), column = crops.column(k, x);
      if (row.low >= 0 && column.low >= 0) {
        const int64_t step = crops.channels_last ? channels : 1;
        const T* plane = features + crops.images[k] * channels * map + (crops.channels_last ? c : c * map);
        const auto load = [&](int64_t at_y, int64_t at_x) {
          return *reinterpret_cast<const Packed<T, width>*>(plane + (at_y * crops.width + at_x) * step);
        };
        const Packed<T, width> top_left = load(row.low, column.low), top_right = load(row.low, column.high);
        const Packed<T, width> bottom_left = load(row.high, column.low), bottom_right = load(row.high, column.high);
#pragma unroll
        for (int v = 0; v < width; ++v) {
          const C top = blend(C(top_left.value[v]), C(top_right.value[v]), column.weight);
          const C bottom = blend(C(bottom_left.value[v]), C(bottom_right.value[v]), column.weight);
          result.value[v] = T(blend(top, bottom, row.weight));
        }
      }
    }
    reinterpret_cast<Packed<T, width>*>(out)[i] = result;
  }
};

// Computes a part of the features' gradient. It reads the crops in order, so it needs no atomics and its sums are
// deterministic. A sample reaches only cells within a distance of one, so few rows and columns of each crop are read.
template <typename T, typename B, int width> struct Backward {
  using C = compute_t<T>;
  using P = compute_t<B>;
  Crops<T, B> crops;
  const T* grad;
  C* sums;

  // Samples [from, to) include all that touch `cell`, and may include others.
  __device__ static void reach(P start, P end, int64_t samples, int64_t size, int64_t cell, int64_t& from,
                               int64_t& to) {
    from = 0, to = samples;
    const P last = P(size - 1), step = samples > 1 ? (end - start) * last / P(samples - 1) : P(0);
    if (!(step > 0 || step < 0)) return;
    const P a = (P(cell - 1) - start * last) / step, b = (P(cell + 1) - start * last) / step;
    const P low = lower(a, b) - P(1), high = higher(a, b) + P(2);
    from = low > P(0) ? (low < P(samples) ? int64_t(low) : samples) : 0;
    to = high < P(samples) ? (high > P(0) ? int64_t(high) : 0) : samples;
  }

  __device__ void operator()(int64_t i) const {
    const int64_t channels = crops.channels, crop = crops.rows * crops.columns;
    const int64_t step = crops.channels_last ? channels : 1;
    const auto [n, c, y, x] = place_of<width>(i, channels, crops.height, crops.width, crops.channels_last);
    C sum[width] = {};
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
          if (across == C(0)) continue;
          const auto values = *reinterpret_cast<const Packed<T, width>*>(given + (v * crops.columns + u) * step);
#pragma unroll
          for (int w = 0; w < width; ++w) sum[w] += C(values.value[w]) * down * across;
        }
      }
    }
    store<width>(sums + i * width, sum);
  }
};

Tensor cuda(const Tensor& features, const Tensor& boxes, const Tensor& box_indices, int64_t rows, int64_t columns,
            double extrapolation) {
  check_crops(features, boxes, box_indices, rows, columns);
  const bool channels_last = is_channels_last(features);
  Tensor out = new_4d("rows", features, boxes.size(0), features.size(1), rows, columns, channels_last);
  const OnDevice on(features);
  const Tensor maps = dense(features), b = as_contiguous(boxes), i = as_contiguous(box_indices);
  dispatch(maps, "features", boxes, [&](auto type, auto box_type) {
    using T = typename decltype(type)::type;
    using B = typename decltype(box_type)::type;
    constexpr int width = 16 / sizeof(T);
    const auto c = crops<T, B>(maps, out, b, i, channels_last, extrapolation);
    T* to = mutable_data<T>(out);
    if (channels_last && can_pack<T>({maps, out}, c.channels))
      each(on, out.numel() / width, Forward<T, B, width>{c, data<T>(maps), to});
    else each(on, out.numel(), Forward<T, B, 1>{c, data<T>(maps), to});
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
    constexpr int width = 16 / sizeof(T);
    const auto c = crops<T, B>(sums, grad, b, i, channels_last, 0);
    auto* to = mutable_data<compute_t<T>>(sums);
    if (channels_last && can_pack<T>({given, sums}, c.channels))
      each(on, sums.numel() / width, Backward<T, B, width>{c, data<T>(given), to});
    else each(on, sums.numel(), Backward<T, B, 1>{c, data<T>(given), to});
  });
  return sums;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("crop_and_resize", PYRCNN_BOX(&cuda));
  m.impl("_crop_and_resize_backward", PYRCNN_BOX(&backward_cuda));
}
}  // namespace pyrcnn::crop_and_resize
