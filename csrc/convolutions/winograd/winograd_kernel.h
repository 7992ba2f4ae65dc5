// The loops of winograd_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/cpu.h"
#include "winograd.h"

namespace pyrcnn::winograd {

// Does `task` of `layer`; `scratch` [workspace_floats(task.tiles, layer.inputs)].
PYRCNN_DECLARE_KERNEL(void, convolve, (const Layer& layer, const Task& task, float* scratch))

}  // namespace pyrcnn::winograd
