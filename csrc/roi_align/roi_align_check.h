// The arguments of roi_align and its backward ops, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "roi_align.h"

namespace pyrcnn::roi_align {

using Numbers = HeaderOnlyArrayRef<double>;
using Integers = HeaderOnlyArrayRef<int64_t>;

// The memory format of all levels: that of the first level for which NCHW and NHWC differ.
inline bool common_layout(const std::vector<Tensor>& features) {
  for (const Tensor& t : features) {
    if (is_channels_last(t)) return true;
    if (t.numel() > 0 && t.size(1) > 1 && t.size(2) * t.size(3) > 1) return false;
  }
  return false;
}

inline Tensor in_layout(const Tensor& t, bool channels_last) {
  if (!channels_last) return as_contiguous(t);
  if (is_channels_last(t) || t.size(1) == 1 || t.size(2) * t.size(3) == 1) return dense(t);
  return as_channels_last(t);
}

inline void check_rois(const Tensor& rois) {
  check(rois.dim() == 2 && rois.size(1) == 5, "rois must be [K, 5], got ", shape(rois));
}

inline Options options(int64_t output_height, int64_t output_width, int64_t sampling_ratio, bool aligned) {
  constexpr int64_t kMaxBins = 1 << 16, kMaxRatio = 256;  // a bin of so many samples squared takes 0.1 ms
  check(output_height > 0 && output_width > 0 && output_height <= kMaxBins && output_width <= kMaxBins,
        "output_size must be between 1 and ", kMaxBins, ", got (", output_height, ", ", output_width, ")");
  check(sampling_ratio <= kMaxRatio, "sampling_ratio must be at most ", kMaxRatio, ", got ", sampling_ratio);
  return {int32_t(output_height), int32_t(output_width), int32_t(sampling_ratio > 0 ? sampling_ratio : 0), aligned};
}

// The sizes of the feature maps, which the forward pass reads from the features and the backward pass has as arguments.
template <typename C>
Pyramid<C> pyramid(int64_t images, int64_t channels, Integers heights, Integers widths, Numbers scales,
                   double canonical_size, int64_t canonical_level) {
  const int64_t levels = int64_t(heights.size());
  check(levels >= 1 && levels <= kMaxLevels, "features must be 1 to ", kMaxLevels, " levels, got ", levels);
  check(images >= 0, "images must not be negative, got ", images);
  check(int64_t(scales.size()) == levels, "scales must be one number per level (", levels, "), got ", scales.size());
  Pyramid<C> result{};
  result.levels = int32_t(levels), result.images = images, result.channels = channels;
  const double first_level = std::round(-std::log2(scales[0]));
  for (int64_t l = 0; l < levels; ++l) {
    check(scales[l] > 0 && std::isfinite(scales[l]), "scales must be positive and finite, got ", scales[l]);
    constexpr int64_t kMaxSide = int64_t(1) << 30;  // a pixel's number fits 32 bits also after rounding to float
    check(heights[l] >= 0 && widths[l] >= 0 && heights[l] < kMaxSide && widths[l] < kMaxSide,
          "features must have sides below 2^30, got ", heights[l], " and ", widths[l]);
    result.height[l] = int32_t(heights[l]), result.width[l] = int32_t(widths[l]);
    result.scale[l] = C(scales[l]);
    // floor(canonical_level + log2(sqrt(area) / canonical_size) + 1e-6) >= first_level + l, solved for the area
    const double side = canonical_size * std::exp2(first_level + double(l) - double(canonical_level) - 1e-6);
    result.area[l] = C(side * side);
  }
  return result;
}

template <typename C>
Pyramid<C> pyramid(const std::vector<Tensor>& features, Numbers scales, double canonical_size,
                   int64_t canonical_level) {
  std::vector<int64_t> heights, widths;
  for (const Tensor& t : features) heights.push_back(t.size(2)), widths.push_back(t.size(3));
  return pyramid<C>(features[0].size(0), features[0].size(1), heights, widths, scales, canonical_size, canonical_level);
}

inline void check_features(const std::vector<Tensor>& features, const Tensor& rois) {
  check(!features.empty(), "features must have at least one level, got none");
  const Tensor& first = features[0];
  check_tensors("features[0]", first, "features", features, "rois", rois);
  for (const Tensor& t : features) {
    check(t.dim() == 4, "features must be [N, C, H, W] per level, got ", shape(t));
    check(t.size(0) == first.size(0) && t.size(1) == first.size(1),
          "features must have the same N and C at every level, got ", shape(first), " and ", shape(t));
    check(t.scalar_type() == first.scalar_type(), "features must have one dtype at every level, got ", dtype(first),
          " and ", dtype(t));
  }
  check_rois(rois);
}

inline void check_grad(const Tensor& grad, const Tensor& features, const Tensor& rois) {
  check_tensors("rois", rois, "grad", grad);
  check(grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(1) == features.size(1),
        "grad must be [K, C, height, width], got ", shape(grad));
  check(grad.scalar_type() == features.scalar_type(), "grad must have the dtype of features, ", dtype(features),
        ", got ", dtype(grad));
}

inline void check_sizes(const Tensor& grad, const Tensor& rois, Integers heights, Integers widths) {
  check_tensors("grad", grad, "rois", rois);
  check_rois(rois);
  check(grad.dim() == 4 && grad.size(0) == rois.size(0), "grad must be [K, C, height, width], got ", shape(grad));
  check(heights.size() == widths.size(), "heights must be as many as widths, ", widths.size(), ", got ",
        heights.size());
}

// The RoIs in the compute type of the features. Coordinates are never rounded to half precision.
template <typename C> Tensor compute_rois(const Tensor& rois) {
  dispatch_floating(rois, "rois", [](auto) {});
  const ScalarType wanted = sizeof(C) == 8 ? ScalarType::Double : ScalarType::Float;
  return as_contiguous(as_type(rois, wanted));
}

}  // namespace pyrcnn::roi_align
