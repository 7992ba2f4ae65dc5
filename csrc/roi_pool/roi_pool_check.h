// The arguments of roi_pool and its backward, checked once for both devices.
#pragma once
#include "../common/tensor.h"
#include "roi_pool.h"

namespace pyrcnn::roi_pool {

inline void check_input(const Tensor& input, const Tensor& rois, double scale, int64_t output_height,
                        int64_t output_width) {
  check(input.dim() == 4, "input must be [N, C, H, W], got ", shape(input));
  check(rois.dim() == 2 && rois.size(1) == 5, "rois must be [K, 5], got ", shape(rois));
  check_same_device("rois", rois, "input", input);
  constexpr int64_t kMaxBins = 1 << 16;
  check(output_height > 0 && output_width > 0 && output_height <= kMaxBins && output_width <= kMaxBins,
        "output_size must be between 1 and ", kMaxBins, ", got (", output_height, ", ", output_width, ")");
  check(std::isfinite(scale), "spatial_scale must be finite, got ", scale);
  constexpr int64_t kLimit = (int64_t(1) << 31) - 1;  // cells are numbered in 32 bits
  check(input.size(2) <= kLimit && input.size(3) <= kLimit && input.size(2) * input.size(3) <= kLimit,
        "input must have fewer than 2^31 pixels per channel, got ", shape(input));
}

inline void check_backward(const Tensor& grad, const Tensor& argmax, const Tensor& rois) {
  check(grad.dim() == 4, "grad must be [K, C, height, width], got ", shape(grad));
  check(argmax.sizes().equals(grad.sizes()), "argmax must have the shape of grad, ", shape(grad), ", got ",
        shape(argmax));
  check(argmax.scalar_type() == ScalarType::Int, "argmax must be int32");
  check(rois.dim() == 2 && rois.size(1) == 5 && rois.size(0) == grad.size(0), "rois must be [K, 5], got ", shape(rois));
  check_same_device("argmax", argmax, "grad", grad);
  check_same_device("rois", rois, "grad", grad);
}

// RoIs in the compute type of the features: coordinates are never rounded to half precision.
template <typename C> Tensor compute_rois(const Tensor& rois) {
  dispatch_floating(rois, "rois", [](auto) {});
  const ScalarType wanted = sizeof(C) == 8 ? ScalarType::Double : ScalarType::Float;
  return as_contiguous(rois.scalar_type() == wanted ? rois : torch::stable::to(rois, wanted));
}

inline Tensor in_layout(const Tensor& t, bool channels_last) {
  return channels_last ? torch::stable::contiguous(t, torch::headeronly::MemoryFormat::ChannelsLast) : as_contiguous(t);
}

}  // namespace pyrcnn::roi_pool
