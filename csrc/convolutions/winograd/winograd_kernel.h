// The loops of winograd_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "winograd.h"

namespace pyrcnn::winograd {

// Computes `task` of `conv`; `scratch` [workspace_floats(task.tiles, conv.inputs)].
PYRCNN_DECLARE_KERNEL(void, convolve, (const Convolution& conv, const Task& task, float* scratch))

}  // namespace pyrcnn::winograd
