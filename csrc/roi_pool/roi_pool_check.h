// The arguments of roi_pool and its backward, checked once for both devices.
#pragma once
#include "common/allocate.h"
#include "roi_pool.h"

namespace pyrcnn::roi_pool {

constexpr int64_t kMaxBins = 1 << 16;

// Cells are numbered in 32 bits, and so are rows and columns.
inline bool has_numbered_cells(int64_t height, int64_t width) {
  constexpr int64_t kLimit = (int64_t(1) << 31) - 1;
  return height <= kLimit && width <= kLimit && height * width <= kLimit;
}

// argmax is y * width + x, or -1 for an empty bin, in `argmax_bits` bits: 16 or 32. 0: it is not returned.
inline void check_input(const Tensor& input, const Tensor& rois, double scale, int64_t output_height,
                        int64_t output_width, int64_t argmax_bits) {
  check_tensors("input", input, "rois", rois);
  check(input.dim() == 4, "input must be [N, C, H, W], got ", shape(input));
  check(rois.dim() == 2 && rois.size(1) == 5, "rois must be [K, 5], got ", shape(rois));
  check(output_height > 0 && output_width > 0 && output_height <= kMaxBins && output_width <= kMaxBins,
        "output_size must be between 1 and ", kMaxBins, ", got (", output_height, ", ", output_width, ")");
  check(std::isfinite(scale), "spatial_scale must be finite, got ", scale);
  check(has_numbered_cells(input.size(2), input.size(3)), "input must have fewer than 2^31 pixels per channel, got ",
        shape(input));
  check(argmax_bits == 0 || argmax_bits == 16 || argmax_bits == 32, "argmax_bits must be 0, 16 or 32, got ",
        argmax_bits);
  check(argmax_bits != 16 || input.size(2) * input.size(3) <= (1 << 15),
        "argmax_bits must be 32 for more than 2^15 pixels per channel, got ", argmax_bits, " for ", shape(input));
}

inline ScalarType place_type(int64_t argmax_bits) { return argmax_bits == 16 ? ScalarType::Short : ScalarType::Int; }

// Calls f(Type<I>{}) with I the storage type of argmax.
template <typename F> decltype(auto) dispatch_places(ScalarType type, F&& f) {
  return type == ScalarType::Short ? f(Type<int16_t>{}) : f(Type<int32_t>{});
}

inline void check_backward(const Tensor& grad, const Tensor& argmax, const Tensor& rois, double scale, int64_t images,
                           int64_t height, int64_t width) {
  check_tensors("grad", grad, "argmax", argmax, "rois", rois);
  check(grad.dim() == 4, "grad must be [K, C, height, width], got ", shape(grad));
  check(argmax.sizes().equals(grad.sizes()), "argmax must have the shape of grad, ", shape(grad), ", got ",
        shape(argmax));
  check(argmax.scalar_type() == ScalarType::Int || argmax.scalar_type() == ScalarType::Short,
        "argmax must be int16 or int32, got ", torch::headeronly::toString(argmax.scalar_type()));
  check(rois.dim() == 2 && rois.size(1) == 5 && rois.size(0) == grad.size(0), "rois must be [", grad.size(0),
        ", 5], got ", shape(rois));
  check(grad.size(2) <= kMaxBins && grad.size(3) <= kMaxBins, "grad must have at most ", kMaxBins,
        " bins per side, got ", shape(grad));
  check(std::isfinite(scale), "spatial_scale must be finite, got ", scale);
  check(images >= 0 && height >= 0 && width >= 0 && has_numbered_cells(height, width),
        "height and width must be those of a map with fewer than 2^31 pixels, got ", height, " and ", width, " for ",
        images, " images");
}

// The RoIs in the compute type of the features. Coordinates are never rounded to half precision.
template <typename C> Tensor compute_rois(const Tensor& rois) {
  dispatch_floating(rois, "rois", [](auto) {});
  const ScalarType wanted = sizeof(C) == 8 ? ScalarType::Double : ScalarType::Float;
  return as_contiguous(as_type(rois, wanted));
}

inline Tensor in_layout(const Tensor& t, bool channels_last) {
  return channels_last ? as_channels_last(t) : as_contiguous(t);
}

}  // namespace pyrcnn::roi_pool
