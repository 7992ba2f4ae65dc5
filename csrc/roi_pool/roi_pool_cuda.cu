#include <tuple>

#include "common/cuda/bins.cuh"
#include "common/cuda/owned.cuh"
#include "roi_pool_check.h"

namespace pyrcnn::roi_pool {
namespace {

// A thread computes one output element, or in NHWC `width` adjacent channels of one bin.
template <typename T, typename I, bool nhwc, int width> struct Forward {
  using C = compute_t<T>;
  const T* input;
  const C* rois;
  Shape s;
  int64_t images;
  C scale;
  T* out;
  I* argmax;  // null if it is not wanted

  __device__ void operator()(int64_t i) const {
    const Element at = element<nhwc, width>(i, s.channels, s.bins_y, s.bins_x);
    const Region<C> r = region(rois + 5 * at.k, images, scale, s.bins_y, s.bins_x);
    const Cells rows = cells(r.y, at.p, s.height), columns = cells(r.x, at.q, s.width);
    const bool empty = !r.in_batch || !r.finite || rows.last <= rows.first || columns.last <= columns.first;
    const int64_t size = int64_t(s.height) * s.width, stride = nhwc ? s.channels : 1;
    const T* plane = input + (nhwc ? r.image * s.channels * size + at.c : (r.image * s.channels + at.c) * size);
    C best[width];
    int32_t where[width];
#pragma unroll
    for (int v = 0; v < width; ++v) {
      best[v] = empty ? C(0) : C(-HUGE_VAL);
      where[v] = empty ? -1 : rows.first * s.width + columns.first;
    }
    if (!empty)
      for (int32_t y = rows.first; y < rows.last; ++y)
        for (int32_t x = columns.first; x < columns.last; ++x) {
          const int32_t cell = y * s.width + x;
          const auto values = *reinterpret_cast<const Packed<T, width>*>(plane + cell * stride);
#pragma unroll
          for (int v = 0; v < width; ++v)
            if (replaces(C(values.value[v]), best[v])) best[v] = C(values.value[v]), where[v] = cell;
        }
    Packed<T, width> result;
#pragma unroll
    for (int v = 0; v < width; ++v) result.value[v] = T(best[v]);
    reinterpret_cast<Packed<T, width>*>(out)[i] = result;
    if (argmax == nullptr) return;
    I places[width];
#pragma unroll
    for (int v = 0; v < width; ++v) places[v] = I(where[v]);
    store<width>(argmax + i * width, places);
  }
};

std::tuple<Tensor, Tensor> forward_cuda(const Tensor& input, const Tensor& rois, double scale, int64_t output_height,
                                        int64_t output_width, int64_t argmax_bits) {
  check_input(input, rois, scale, output_height, output_width, argmax_bits);
  const OnDevice on(input);
  const bool nhwc = is_channels_last(input);
  const int64_t count = rois.size(0), channels = input.size(1);
  Tensor out = new_4d("output_height", input, count, channels, output_height, output_width, nhwc);
  const ScalarType places = place_type(argmax_bits);
  Tensor argmax = argmax_bits > 0
                      ? new_4d("output_height", input, count, channels, output_height, output_width, nhwc, places)
                      : torch::stable::new_empty(input, {0}, places);
  dispatch_floating(input, "input", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const Tensor from = compute_rois<C>(rois), map = dense(input);
    if (out.numel() == 0) return;
    const Shape s{channels, int32_t(input.size(2)), int32_t(input.size(3)), int32_t(output_height),
                  int32_t(output_width)};
    constexpr int width = 16 / sizeof(T);
    const auto launch = [&](auto kernel, auto* where, int64_t elements) {
      kernel.input = data<T>(map), kernel.rois = data<C>(from), kernel.s = s, kernel.images = input.size(0);
      kernel.scale = C(scale), kernel.out = mutable_data<T>(out), kernel.argmax = where;
      each(on, elements, kernel);
    };
    dispatch_places(places, [&](auto place) {
      using I = typename decltype(place)::type;
      I* where = argmax_bits > 0 ? mutable_data<I>(argmax) : nullptr;
      if (nhwc && can_pack<T>({map, out}, channels)) launch(Forward<T, I, true, width>{}, where, out.numel() / width);
      else if (nhwc) launch(Forward<T, I, true, 1>{}, where, out.numel());
      else launch(Forward<T, I, false, 1>{}, where, out.numel());
    });
  });
  return {out, argmax};
}

// Strides in elements.
struct Strides {
  int64_t roi, channel, bin;          // of grad and argmax
  int64_t image, map_channel, pixel;  // of the sums
};

// The fast kernel: a thread adds one element of `grad` atomically.
template <typename T, typename I> struct Scatter {
  using C = compute_t<T>;
  const T* grad;
  const I* argmax;
  const C* rois;
  int64_t channels, bins, images, pixels;
  Strides strides;
  bool nhwc;
  C* sums;

  __device__ void operator()(int64_t i) const {
    const int64_t rest = quotient(i, nhwc ? channels : bins), inner = i - rest * (nhwc ? channels : bins);
    const int64_t k = quotient(rest, nhwc ? bins : channels), c = nhwc ? inner : rest - k * channels;
    const C image = rois[5 * k];
    const int32_t pixel = argmax[i];
    if (!(image >= C(0) && image < C(images)) || pixel < 0 || pixel >= pixels) return;
    C* to = sums + int64_t(image) * strides.image + c * strides.map_channel + pixel * strides.pixel;
    atomicAdd(to, C(grad[i]));
  }
};

// The deterministic kernel: each block computes the gradients of its pixels, one pixel after the other. It adds the
// gradients of the bins that contain the pixel and have their maximum there.
template <typename T, typename I>
__global__ void __launch_bounds__(kOwnerThreads, 1)
    gather(const T* grad, const I* argmax, const compute_t<T>* rois, int64_t rois_count, int64_t images, Shape s,
           compute_t<T> scale, Strides strides, T* out) {
  using C = compute_t<T>;
  const int64_t count = owners(images, s.channels, int64_t(s.height) * s.width);
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const Owned own = owned(i, s.channels, s.height, s.width);
    const bool inside = own.channel < s.channels;
    C sum = 0;
    const auto region_of = [&](int64_t k) { return region(rois + 5 * k, images, scale, s.bins_y, s.bins_x); };
    const auto touches = [&](int64_t k) {
      const Region<C> r = region_of(k);
      return r.in_batch && r.finite && r.image == own.image && cells(r.y, 0, s.height).first <= own.row &&
             own.row < cells(r.y, s.bins_y - 1, s.height).last && cells(r.x, 0, s.width).first <= own.column &&
             own.column < cells(r.x, s.bins_x - 1, s.width).last;
    };
    for_each_touching(rois_count, touches, [&](int64_t k) {
      const Region<C> r = region_of(k);
      const int64_t from = k * strides.roi + own.channel * strides.channel;
      for (int32_t p = 0; p < s.bins_y; ++p) {
        const Cells rows = cells(r.y, p, s.height);
        if (own.row < rows.first || own.row >= rows.last) continue;
        for (int32_t q = 0; q < s.bins_x; ++q) {
          const Cells columns = cells(r.x, q, s.width);
          if (own.column < columns.first || own.column >= columns.last || !inside) continue;
          const int64_t at = from + (int64_t(p) * s.bins_x + q) * strides.bin;
          if (argmax[at] == own.pixel) sum += C(grad[at]);
        }
      }
    });
    if (inside) out[own.image * strides.image + own.channel * strides.map_channel + own.pixel * strides.pixel] = T(sum);
  }
}

Tensor backward_cuda(const Tensor& grad, const Tensor& argmax, const Tensor& rois, double scale, int64_t images,
                     int64_t height, int64_t width, bool channels_last, bool deterministic) {
  check_backward(grad, argmax, rois, scale, images, height, width);
  const OnDevice on(grad);
  const auto compute = [&](auto type, auto place) {
    using T = typename decltype(type)::type;
    using I = typename decltype(place)::type;
    using C = compute_t<T>;
    const int64_t channels = grad.size(1), bins = grad.size(2) * grad.size(3), pixels = height * width;
    const Tensor g = dense(grad), from = compute_rois<C>(rois);
    const bool nhwc = is_channels_last(g);
    const Tensor where = in_layout(argmax, nhwc);
    const Strides strides{channels * bins,
                          nhwc ? 1 : bins,
                          nhwc ? channels : 1,
                          channels * pixels,
                          channels_last ? 1 : pixels,
                          channels_last ? channels : 1};
    const T* values = data<T>(g);
    const I* indices = data<I>(where);
    if (deterministic) {
      Tensor out = new_4d("height", grad, images, channels, height, width, channels_last);
      const Shape s{channels, int32_t(height), int32_t(width), int32_t(grad.size(2)), int32_t(grad.size(3))};
      if (out.numel() > 0)
        launch(on, &gather<T, I>, unsigned(lower(owners(images, channels, pixels), kMaxBlocks)), kOwnerThreads, values,
               indices, data<C>(from), rois.size(0), images, s, C(scale), strides, mutable_data<T>(out));
      return out;
    }
    const ScalarType sum_type = sizeof(C) == 8 ? ScalarType::Double : ScalarType::Float;
    Tensor sums = new_4d("height", grad, images, channels, height, width, channels_last, sum_type);
    torch::stable::zero_(sums);
    if (sums.numel() > 0)
      each(on, g.numel(),
           Scatter<T, I>{values, indices, data<C>(from), channels, bins, images, pixels, strides, nhwc,
                         mutable_data<C>(sums)});
    return as_type(sums, grad.scalar_type());
  };
  return dispatch_floating(grad, "grad", [&](auto type) {
    return dispatch_places(argmax.scalar_type(), [&](auto place) { return compute(type, place); });
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) {
  m.impl("roi_pool", PYRCNN_BOX(&forward_cuda));
  m.impl("_roi_pool_backward", PYRCNN_BOX(&backward_cuda));
}
}  // namespace pyrcnn::roi_pool
