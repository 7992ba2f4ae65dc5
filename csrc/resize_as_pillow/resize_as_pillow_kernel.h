// The loops of resize_as_pillow_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "resize_as_pillow.h"

namespace pyrcnn::resize_as_pillow {

// The filters of all new pixels of a side. Each has `taps` weights; those that it does not need are 0.
struct Filters {
  const int64_t* first;
  const int32_t* weights;
  int64_t count, taps;
};

// Resizes a row along x. Behind the row, `taps` bytes are readable.
PYRCNN_DECLARE_KERNEL(void, stretch, (const uint8_t* row, const Filters& filters, uint8_t* to))
// Computes a row from those of the filter of new row `y`, in an image whose rows are `width` bytes apart.
PYRCNN_DECLARE_KERNEL(void, blend,
                      (const uint8_t* image, int64_t width, const Filters& filters, int64_t rows, int64_t y,
                       uint8_t* to))
}  // namespace pyrcnn::resize_as_pillow
