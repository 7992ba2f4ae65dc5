// The loops of crop_and_resize_kernel.cpp, one version per instruction set.
#pragma once
#include "common/simd/block.h"
#include "common/cpu/kernel.h"
#include "crop_and_resize.h"

namespace pyrcnn::crop_and_resize {

// Computes one row of a crop from the two rows of the map around it: crop_row_last in NHWC, crop_row_first one channel
// in NCHW. `taps` are the columns of the crop. spread_last adds a row's gradient, channels [first, end), to two NHWC
// rows of the map's gradient.
PYRCNN_DECLARE_KERNEL(template <typename T> void, crop_row_last,
                      (const T* top, const T* bottom, T* to, const Tap<compute_t<T>>* taps, int64_t columns,
                       int64_t channels, compute_t<T> weight, compute_t<T> outside))
PYRCNN_DECLARE_KERNEL(template <typename T> void, crop_row_first,
                      (const T* top, const T* bottom, T* to, const Tap<compute_t<T>>* taps, int64_t columns,
                       compute_t<T> weight, compute_t<T> outside))
// Copies `count` channels of an NCHW map to an NHWC map [pixels, line_block<T>], and back.
PYRCNN_DECLARE_KERNEL(template <typename T> void, load_tile, (const T* planes, int64_t pixels, int64_t count, T* tile))
PYRCNN_DECLARE_KERNEL(template <typename T> void, store_tile, (const T* tile, int64_t pixels, int64_t count, T* planes))
PYRCNN_DECLARE_KERNEL(template <typename T> void, spread_last,
                      (const T* grad, compute_t<T>* top, compute_t<T>* bottom, const Tap<compute_t<T>>* taps,
                       int64_t columns, int64_t channels, int64_t first, int64_t end, compute_t<T> weight))
}  // namespace pyrcnn::crop_and_resize
