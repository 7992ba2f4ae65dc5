// The loops of roi_align_kernel.cpp and roi_align_backward_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "roi_align_taps.h"

namespace pyrcnn::roi_align {

// NHWC: pools `image` [height, width, channels] to `out` [bins, channels].
PYRCNN_DECLARE_KERNEL(template <typename T> void, pool_nhwc,
                      (const Taps<compute_t<T>>& taps, const T* image, int64_t width, int64_t channels, T* out))

// NCHW, one block of at most line_block<T> channels. gather_rows copies rows [first, last) of its planes to `tile`
// [height, width, block]. pool_tile pools a RoI from `tile` to `out` [channels, bins]; `scratch` [bins, block].
PYRCNN_DECLARE_KERNEL(template <typename T> void, gather_rows,
                      (const T* planes, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t last,
                       T* tile))
PYRCNN_DECLARE_KERNEL(template <typename T> void, pool_tile,
                      (const Taps<compute_t<T>>& taps, const T* tile, int64_t width, int64_t channels, T* scratch,
                       T* out))

// Backward pass. read_grad copies the gradient of some bins and one block of channels to `scratch` [bins, kBlock].
// spread adds the gradient of a RoI's bins to rows [first, last) of an image; `to` [last - first, width, channels],
// channels a multiple of kBlock. write_pixels copies a tile [pixels, kBlock] to the result. The strides are those of
// the tensor.
PYRCNN_DECLARE_KERNEL(template <typename T> void, read_grad,
                      (const T* grad, int64_t bins, int64_t bin_stride, int64_t channels, int64_t channel_stride,
                       T* scratch))
PYRCNN_DECLARE_KERNEL(template <typename T> void, spread,
                      (const Taps<compute_t<T>>& taps, const T* grad, int64_t bin_stride, int64_t channels,
                       int64_t width, int64_t first, int64_t last, compute_t<T>* to))
PYRCNN_DECLARE_KERNEL(template <typename T> void, write_pixels,
                      (const compute_t<T>* tile, int64_t pixels, int64_t pixel_stride, int64_t channels,
                       int64_t channel_stride, T* to))
PYRCNN_DECLARE_KERNEL(template <typename T> void, rois_gradient,
                      (const Region<compute_t<T>>& r, const Options& o, compute_t<T> scale, const T* image,
                       int32_t height, int32_t width, int64_t channels, const T* grad, compute_t<T>* out))

}  // namespace pyrcnn::roi_align
