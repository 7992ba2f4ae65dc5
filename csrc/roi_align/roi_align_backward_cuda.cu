// The gradient of roi_align to the feature maps: a fast kernel with atomic additions, and a deterministic one
// (common/cuda/owned.cuh).
#include "common/cuda/owned.cuh"
#include "roi_align_cuda.cuh"

namespace pyrcnn::roi_align {
namespace {

template <typename C> __device__ void add(C* to, C value) { atomicAdd(to, value); }

// Adds `width` adjacent values atomically.
template <int width, typename C> __device__ void add_packed(C* to, const C (&values)[width]) {
#if __CUDA_ARCH__ >= 900 && CUDART_VERSION >= 12010
  constexpr bool by_four = width % 4 == 0 && sizeof(C) == 4;
#else
  constexpr bool by_four = false;
#endif
  if constexpr (by_four) {
#pragma unroll
    for (int v = 0; v < width; v += 4)
      add(reinterpret_cast<float4*>(to + v), make_float4(values[v], values[v + 1], values[v + 2], values[v + 3]));
  } else {
#pragma unroll
    for (int v = 0; v < width; ++v) add(to + v, values[v]);
  }
}

// A thread adds one element of `grad`, or in NHWC `width` adjacent channels. The sums have the compute type. Maps and
// `grad` have the same memory format.
template <typename T, bool nhwc, int width> struct Scatter {
  using C = compute_t<T>;
  Maps<C, C> maps;
  const T* grad;

  __device__ void operator()(int64_t i) const {
    const int64_t channels = maps.pyramid.channels, stride = nhwc ? channels : 1;
    const Element at = element<nhwc, width>(i, channels, maps.options.bins_y, maps.options.bins_x);
    const Region<C> r = maps.region_of(at.k);
    if (!r.valid) return;
    const auto values = reinterpret_cast<const Packed<T, width>*>(grad)[i];
    C* plane = maps.template plane<nhwc>(r, at.c);
    visit_pixels(r, at.p, at.q, maps.pyramid.height[r.level], maps.pyramid.width[r.level],
                 [&](int64_t pixel, C weight) {
                   C parts[width];
#pragma unroll
                   for (int v = 0; v < width; ++v) parts[v] = weight * C(values.value[v]);
                   add_packed<width>(plane + pixel * stride, parts);
                 });
  }
};

// Whether the samples of this axis may reach a pixel. A cheap test: true may be wrong, false never is.
template <typename C> __device__ bool may_touch(const Axis<C>& a, int32_t bins, int32_t size, int32_t pixel) {
  const C begin = a.start, end = a.start + C(bins) * a.bin, slack = touching_slack(begin, end);
  return (lower(begin, end) <= C(pixel) + slack || pixel == size - 1) &&
         (higher(begin, end) >= C(pixel) - slack || pixel == 0);
}

// Each block computes the gradients of its pixels of one level, one pixel after the other.
template <typename T>
__global__ void __launch_bounds__(kOwnerThreads, 1)
    gather(const __grid_constant__ Maps<T, compute_t<T>> maps, const T* grad, int64_t rois, int32_t level,
           int64_t pixel_stride, int64_t channel_stride, int64_t image_stride, int64_t grad_bin, int64_t grad_channel) {
  using C = compute_t<T>;
  const Pyramid<C>& pyramid = maps.pyramid;
  const Options& o = maps.options;
  const int32_t height = pyramid.height[level], width = pyramid.width[level];
  const int64_t bins = int64_t(o.bins_y) * o.bins_x;
  const int64_t count = owners(pyramid.images, pyramid.channels, int64_t(height) * width);
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const Owned own = owned(i, pyramid.channels, height, width);
    const bool inside = own.channel < pyramid.channels;
    C sum = 0;
    const auto touches = [&](int64_t k) {
      const Region<C> r = maps.region_of(k);
      return r.valid && r.level == level && r.image == own.image && may_touch(r.y, o.bins_y, height, own.row) &&
             may_touch(r.x, o.bins_x, width, own.column);
    };
    for_each_touching(rois, touches, [&](int64_t k) {
      const Region<C> r = maps.region_of(k);
      const T* from = grad + k * pyramid.channels * bins + own.channel * grad_channel;
      for (int32_t p = 0; p < o.bins_y; ++p) {
        const C weight_y = pixel_weight(r.y, p, height, own.row);
        if (weight_y == C(0)) continue;
        for (int32_t q = 0; q < o.bins_x; ++q) {
          const C weight = weight_y * pixel_weight(r.x, q, width, own.column);
          if (weight == C(0) || !inside) continue;
          sum = fma(weight, C(from[(int64_t(p) * o.bins_x + q) * grad_bin]), sum);
        }
      }
    });
    if (inside)
      maps.data[level][own.image * image_stride + own.pixel * pixel_stride + own.channel * channel_stride] = T(sum);
  }
}

template <typename T>
std::vector<Tensor> deterministic_backward(const OnDevice& on, const Tensor& grad, const Tensor& rois,
                                           const Pyramid<compute_t<T>>& sizes, const Options& o, bool nhwc) {
  using C = compute_t<T>;
  const int64_t channels = sizes.channels, bins = int64_t(o.bins_y) * o.bins_x;
  const Tensor g = dense(grad);
  const bool grad_nhwc = is_channels_last(g);
  Maps<T, C> maps{{}, sizes, o, data<C>(rois)};
  std::vector<Tensor> grads;
  for (int32_t l = 0; l < sizes.levels; ++l) {
    grads.push_back(new_4d("heights", grad, sizes.images, channels, sizes.height[l], sizes.width[l], nhwc));
    maps.data[l] = mutable_data<T>(grads[l]);
    const int64_t size = int64_t(sizes.height[l]) * sizes.width[l];
    if (grads[l].numel() == 0) continue;
    launch(on, &gather<T>, unsigned(lower(owners(sizes.images, channels, size), kMaxBlocks)), kOwnerThreads, maps,
           data<T>(g), rois.size(0), l, nhwc ? channels : 1, nhwc ? 1 : size, size * channels, grad_nhwc ? channels : 1,
           grad_nhwc ? 1 : bins);
  }
  return grads;
}

template <typename T>
std::vector<Tensor> atomic_backward(const OnDevice& on, const Tensor& grad, const Tensor& rois,
                                    const Pyramid<compute_t<T>>& sizes, const Options& o, bool nhwc) {
  using C = compute_t<T>;
  const ScalarType sum_type = sizeof(C) == 8 ? ScalarType::Double : ScalarType::Float;
  const Tensor g = in_layout(grad, nhwc);
  Maps<C, C> maps{{}, sizes, o, data<C>(rois)};
  std::vector<Tensor> sums, packable{g};
  for (int32_t l = 0; l < sizes.levels; ++l) {
    sums.push_back(
        new_4d("heights", grad, sizes.images, sizes.channels, sizes.height[l], sizes.width[l], nhwc, sum_type));
    torch::stable::zero_(sums[l]);
    maps.data[l] = mutable_data<C>(sums[l]);
    packable.push_back(sums[l]);
  }
  constexpr int width = 16 / sizeof(T);
  if (nhwc && can_pack<T>(packable, sizes.channels))
    each(on, g.numel() / width, Scatter<T, true, width>{maps, data<T>(g)});
  else if (nhwc) each(on, g.numel(), Scatter<T, true, 1>{maps, data<T>(g)});
  else each(on, g.numel(), Scatter<T, false, 1>{maps, data<T>(g)});
  if (grad.scalar_type() != sum_type)
    for (Tensor& t : sums) t = torch::stable::to(t, grad.scalar_type());
  return sums;
}

std::vector<Tensor> backward_cuda(const Tensor& grad, const Tensor& rois, Integers heights, Integers widths,
                                  int64_t images, Numbers scales, int64_t sampling_ratio, bool aligned,
                                  double canonical_size, int64_t canonical_level, bool channels_last,
                                  bool deterministic) {
  check_sizes(grad, rois, heights, widths);
  const Options o = options(grad.size(2), grad.size(3), sampling_ratio, aligned);
  const OnDevice on(grad);
  return dispatch_floating(grad, "grad", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const auto sizes = pyramid<C>(images, grad.size(1), heights, widths, scales, canonical_size, canonical_level);
    const Tensor from = compute_rois<C>(rois);
    return deterministic ? deterministic_backward<T>(on, grad, from, sizes, o, channels_last)
                         : atomic_backward<T>(on, grad, from, sizes, o, channels_last);
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("_roi_align_backward", PYRCNN_BOX(&backward_cuda)); }
}  // namespace pyrcnn::roi_align
