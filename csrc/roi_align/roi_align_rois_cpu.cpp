// The gradient of roi_align to the RoIs' coordinates.
#include "common/cpu/parallel.h"
#include "roi_align_kernel.h"
#include "roi_align_check.h"

namespace pyrcnn::roi_align {
namespace {

constexpr double kNanosecondsPerTap = 0.2;  // one tap of one channel

Tensor cpu(const Tensor& grad, const std::vector<Tensor>& features, const Tensor& rois, Numbers scales,
           int64_t sampling_ratio, bool aligned, double canonical_size, int64_t canonical_level) {
  check_features(features, rois);
  check_grad(grad, features[0], rois);
  const Options o = options(grad.size(2), grad.size(3), sampling_ratio, aligned);
  const int64_t count = rois.size(0), channels = grad.size(1), bins = int64_t(o.bins_y) * o.bins_x;
  return dispatch_floating(grad, "grad", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const auto sizes = pyramid<C>(features, scales, canonical_size, canonical_level);
    const Tensor from = compute_rois<C>(rois), g = in_layout(grad, true);
    Tensor out = new_result("rois", from, {count, 5});
    std::vector<Tensor> maps;
    for (const Tensor& t : features) maps.push_back(in_layout(t, true));
    const C* roi = data<C>(from);
    C* to = mutable_data<C>(out);
    const auto gradient = PYRCNN_KERNEL(rois_gradient<T>);
    const double samples = o.sampling_ratio > 0 ? o.sampling_ratio : 3.0;
    const double cost = 4 * samples * samples * double(bins * channels) * kNanosecondsPerTap;
    parallel(count, cost, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; ++k) {
        const Region<C> r = region(sizes, o, roi + 5 * k);
        std::fill_n(to + 5 * k, 5, C(0));
        if (!r.valid || channels == 0) continue;
        const int32_t height = sizes.height[r.level], width = sizes.width[r.level];
        const T* image = data<T>(maps[r.level]) + r.image * height * width * channels;
        gradient(r, o, sizes.scale[r.level], image, height, width, channels, data<T>(g) + k * bins * channels,
                 to + 5 * k + 1);
      }
    });
    return as_type(out, rois.scalar_type());
  });
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_roi_align_rois_backward", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::roi_align
