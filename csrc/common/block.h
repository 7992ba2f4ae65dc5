// The unit in which CPU kernels take channels where they reorder NCHW or own a part of a gradient.
#pragma once
#include "hd.h"

namespace pyrcnn {

// Two 64-byte lines of floats per pixel.
constexpr int kBlock = 32;

}  // namespace pyrcnn
