// The unit in which CPU kernels take channels where they reorder NCHW or own a part of a gradient.
#pragma once
#include "common/math/hd.h"

namespace pyrcnn {

// Two 64-byte lines of floats per pixel.
constexpr int kBlock = 32;

// One line, where a map's pixels are read in no order: half the memory in the caches, and none of it fetched in vain.
template <typename T> constexpr int line_block = sizeof(T) == 2 ? 32 : 16;

}  // namespace pyrcnn
