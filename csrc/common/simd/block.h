// How many channels CPU kernels process together where they reorder NCHW or own a part of a gradient.
#pragma once
#include "common/math/hd.h"

namespace pyrcnn {

// Two cache lines of floats per pixel.
constexpr int kBlock = 32;

// One cache line per pixel, where pixels are read in no order: this halves the memory in the caches and fetches nothing
// that is not used.
template <typename T> constexpr int line_block = sizeof(T) == 2 ? 32 : 16;

}  // namespace pyrcnn
