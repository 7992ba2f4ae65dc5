#include "roi_align_cuda.cuh"

namespace pyrcnn::roi_align {
namespace {

// A thread computes one output element, or in NHWC `width` adjacent channels of one bin.
template <typename T, bool nhwc, int width> struct Forward {
  using C = compute_t<T>;
  Maps<const T, C> maps;
  T* out;

  __device__ void operator()(int64_t i) const {
    const int64_t channels = maps.pyramid.channels;
    const Element at = element<nhwc, width>(i, channels, maps.options.bins_y, maps.options.bins_x);
    const Region<C> r = maps.region_of(at.k);
    C sum[width] = {};
    if (r.valid) {
      const T* plane = maps.template plane<nhwc>(r, at.c);
      const int64_t stride = nhwc ? channels : 1;
      const int32_t rows = maps.pyramid.height[r.level], columns = maps.pyramid.width[r.level];
      visit_pixels(r, at.p, at.q, rows, columns, [&](int64_t pixel, C weight) {
        const auto values = *reinterpret_cast<const Packed<T, width>*>(plane + pixel * stride);
#pragma unroll
        for (int v = 0; v < width; ++v) sum[v] = fma(weight, C(values.value[v]), sum[v]);
      });
    }
    Packed<T, width> result;
#pragma unroll
    for (int v = 0; v < width; ++v) result.value[v] = T(sum[v]);
    reinterpret_cast<Packed<T, width>*>(out)[i] = result;
  }
};

Tensor forward_cuda(const std::vector<Tensor>& features, const Tensor& rois, Numbers scales, int64_t output_height,
                    int64_t output_width, int64_t sampling_ratio, bool aligned, double canonical_size,
                    int64_t canonical_level) {
  check_features(features, rois);
  const Options o = options(output_height, output_width, sampling_ratio, aligned);
  const OnDevice on(features[0]);
  const bool nhwc = common_layout(features);
  const int64_t channels = features[0].size(1);
  Tensor out = new_4d("output_height", features[0], rois.size(0), channels, output_height, output_width, nhwc);
  dispatch_floating(features[0], "features", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const Tensor from = compute_rois<C>(rois);
    Maps<const T, C> maps{{}, pyramid<C>(features, scales, canonical_size, canonical_level), o, data<C>(from)};
    if (out.numel() == 0) return;
    std::vector<Tensor> dense_features;  // must live until the kernel is launched
    for (const Tensor& t : features) {
      dense_features.push_back(in_layout(t, nhwc));
      maps.data[dense_features.size() - 1] = data<T>(dense_features.back());
    }
    constexpr int width = 16 / sizeof(T);
    T* to = mutable_data<T>(out);
    dense_features.push_back(out);
    if (nhwc && can_pack<T>(dense_features, channels)) each(on, out.numel() / width, Forward<T, true, width>{maps, to});
    else if (nhwc) each(on, out.numel(), Forward<T, true, 1>{maps, to});
    else each(on, out.numel(), Forward<T, false, 1>{maps, to});
  });
  return out;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("roi_align", PYRCNN_BOX(&forward_cuda)); }
}  // namespace pyrcnn::roi_align
