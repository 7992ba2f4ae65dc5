// The loops of conv_chain_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/cpu.h"
#include "conv_chain.h"

namespace pyrcnn::conv_chain {

// Does `task` of `chain`; `scratch` [workspace_of(chain).values].
PYRCNN_DECLARE_KERNEL(template <typename T> void, convolve, (const Chain<T>& chain, const Task& task, T* scratch))

}  // namespace pyrcnn::conv_chain
