// The loops of roi_pool_kernel.cpp, one version per instruction set.
#pragma once
#include "common/simd/block.h"
#include "common/cpu/kernel.h"
#include "roi_pool.h"

namespace pyrcnn::roi_pool {

// NHWC: pools `image` [height, width, channels] to `out` and `argmax` [bins, channels].
PYRCNN_DECLARE_KERNEL(template <typename T> void, pool_nhwc,
                      (const Bins& bins, const Shape& s, const T* image, T* out, Places argmax))

// NCHW, one block of `count` channels. load_tile copies its planes to `tile` [height, width, kBlock]. pool_tile pools a
// RoI from `tile` to `out` and `argmax` [count, bins]; `scratch` and `indices` [bins, kBlock].
PYRCNN_DECLARE_KERNEL(template <typename T> void, load_tile, (const T* planes, int64_t pixels, int64_t count, T* tile))
PYRCNN_DECLARE_KERNEL(template <typename T> void, pool_tile,
                      (const Bins& bins, const Shape& s, const T* tile, int64_t count, T* scratch, int32_t* indices,
                       T* out, Places argmax))

}  // namespace pyrcnn::roi_pool
