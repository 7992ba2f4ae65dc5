// The gradient of roi_align to the RoIs' coordinates. One block computes one RoI and sums in a fixed order.
#include "roi_align_cuda.cuh"

namespace pyrcnn::roi_align {
namespace {

constexpr int kRoiThreads = 128;

// Sums `value` over the block; the result is valid in thread 0.
template <typename C> __device__ C block_sum(C value) {
  __shared__ C part[kRoiThreads];
  __syncthreads();
  part[threadIdx.x] = value;
  for (int half = kRoiThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  return part[0];
}

template <typename T, bool nhwc>
__global__ void __launch_bounds__(kRoiThreads, 1)
    gradient(const __grid_constant__ Maps<const T, compute_t<T>> maps, const T* grad, int64_t rois, compute_t<T>* out) {
  using C = compute_t<T>;
  const int64_t channels = maps.pyramid.channels, stride = nhwc ? channels : 1;
  const int64_t count = channels * maps.options.bins_y * maps.options.bins_x;
  for (int64_t k = blockIdx.x; k < rois; k += gridDim.x) {
    const Region<C> r = maps.region_of(k);
    C x1 = 0, y1 = 0, x2 = 0, y2 = 0;
    for (int64_t i = threadIdx.x; r.valid && i < count; i += kRoiThreads) {
      const Element at = element<nhwc, 1>(i, channels, maps.options.bins_y, maps.options.bins_x);
      const int32_t height = maps.pyramid.height[r.level], width = maps.pyramid.width[r.level];
      const T* plane = maps.template plane<nhwc>(r, at.c);
      const C g = C(grad[k * count + i]);
      const Range rows = sample_range(r.y, at.p, height), columns = sample_range(r.x, at.q, width);
      for (int32_t s = rows.first; s < rows.last; ++s) {
        const AxisSample<C> y = axis_sample(sample_at(r.y, at.p, s), height);
        if (!y.inside) continue;
        const C end_y = sample_fraction(r.y, at.p, s);
        const T *top = plane + int64_t(y.low) * width * stride, *bottom = plane + int64_t(y.high) * width * stride;
        for (int32_t t = columns.first; t < columns.last; ++t) {
          const AxisSample<C> x = axis_sample(sample_at(r.x, at.q, t), width);
          if (!x.inside || (x.slope == C(0) && y.slope == C(0))) continue;
          const C top_left = C(top[x.low * stride]), top_right = C(top[x.high * stride]);
          const C bottom_left = C(bottom[x.low * stride]), bottom_right = C(bottom[x.high * stride]);
          const C by_y =
              g * y.slope * (x.weight_low * (bottom_left - top_left) + x.weight_high * (bottom_right - top_right));
          const C by_x =
              g * x.slope * (y.weight_low * (top_right - top_left) + y.weight_high * (bottom_right - bottom_left));
          const C end_x = sample_fraction(r.x, at.q, t);
          y1 += by_y * (C(1) - end_y), y2 += by_y * end_y;
          x1 += by_x * (C(1) - end_x), x2 += by_x * end_x;
        }
      }
    }
    const C sums[5] = {C(0), block_sum(x1), block_sum(y1), block_sum(x2), block_sum(y2)};
    if (threadIdx.x != 0) continue;
    const C share =
        r.valid ? maps.pyramid.scale[r.level] / (C(higher(r.y.samples, 1)) * C(higher(r.x.samples, 1))) : C(0);
    for (int j = 0; j < 5; ++j) out[5 * k + j] = sums[j] * share;
  }
}

Tensor rois_backward_cuda(const Tensor& grad, const std::vector<Tensor>& features, const Tensor& rois, Numbers scales,
                          int64_t sampling_ratio, bool aligned, double canonical_size, int64_t canonical_level) {
  check_features(features, rois);
  check_grad(grad, features[0], rois);
  const Options o = options(grad.size(2), grad.size(3), sampling_ratio, aligned);
  const OnDevice on(grad);
  const bool nhwc = common_layout(features);
  return dispatch_floating(grad, "grad", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const Tensor from = compute_rois<C>(rois), g = in_layout(grad, nhwc);
    Maps<const T, C> maps{{}, pyramid<C>(features, scales, canonical_size, canonical_level), o, data<C>(from)};
    std::vector<Tensor> dense_features;  // must live until the kernel is launched
    for (const Tensor& t : features) {
      dense_features.push_back(in_layout(t, nhwc));
      maps.data[dense_features.size() - 1] = data<T>(dense_features.back());
    }
    const int64_t count = rois.size(0);
    Tensor out = new_result("rois", from, {count, 5});
    if (count > 0) {
      const auto kernel = nhwc ? &gradient<T, true> : &gradient<T, false>;
      launch(on, kernel, unsigned(lower(count, kMaxBlocks)), kRoiThreads, maps, data<T>(g), count,
             mutable_data<C>(out));
    }
    return as_type(out, rois.scalar_type());
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("_roi_align_rois_backward", PYRCNN_BOX(&rois_backward_cuda)); }
}  // namespace pyrcnn::roi_align
