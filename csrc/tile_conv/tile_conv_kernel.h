// The loops of tile_conv_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/cpu.h"
#include "tile_conv.h"

namespace pyrcnn::tile_conv {

// Does `task` of `layer`; `scratch` [workspace_values(layer)] bfloat16, best at the beginning of a line of the cache.
PYRCNN_DECLARE_KERNEL(void, convolve, (const Layer& layer, const Task& task, void* scratch))

}  // namespace pyrcnn::tile_conv
