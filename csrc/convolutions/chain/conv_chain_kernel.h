// The loops of conv_chain_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "conv_chain.h"

namespace pyrcnn::conv_chain {

// Computes `task` of `chain`; `scratch` [workspace_of(chain).floats].
PYRCNN_DECLARE_KERNEL(void, convolve, (const Chain& chain, const Task& task, float* scratch))

}  // namespace pyrcnn::conv_chain
