// The loops of roi_align_kernel.cpp and roi_align_backward_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/cpu.h"
#include "roi_align_taps.h"

namespace pyrcnn::roi_align {

// NHWC: `image` [height, width, channels] -> `out` [bins, channels].
PYRCNN_DECLARE_KERNEL(template <typename T> void, pool_nhwc,
                      (const Taps<compute_t<T>>& taps, const T* image, int64_t width, int64_t channels, T* out))

// NCHW: one block of at most line_block<T> channels. gather_rows turns rows [first, last) of its planes into `tile`
// [height, width, block]; pool_tile pools a RoI from it into `out` [channels, bins], with `scratch` [bins, block].
PYRCNN_DECLARE_KERNEL(template <typename T> void, gather_rows,
                      (const T* planes, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t last,
                       T* tile))
PYRCNN_DECLARE_KERNEL(template <typename T> void, pool_tile,
                      (const Taps<compute_t<T>>& taps, const T* tile, int64_t width, int64_t channels, T* scratch,
                       T* out))

// Backward. read_grad brings the gradient of some bins, one block of channels, into `scratch` [bins, kBlock]; spread
// adds the gradient of all of a RoI's bins, `bin_stride` values apart, to rows [first, last) of an image, which lie at
// `to` [last - first, width, channels], whose channels are a multiple of kBlock; write_pixels stores such rows of a
// block. `channel_stride` and `bin_stride` / `pixel_stride` say where the block lies in memory.
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
