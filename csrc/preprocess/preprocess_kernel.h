// The loops of preprocess_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "preprocess.h"

namespace pyrcnn::preprocess {

// Resizes one channel of a source row along x.
PYRCNN_DECLARE_KERNEL(template <typename S> void, stretch,
                      (const S* row, int64_t step, const Columns& columns, float* to))
// Computes one channel of an output row from the two resized source rows around it.
PYRCNN_DECLARE_KERNEL(template <typename T> void, finish,
                      (const float* top, const float* bottom, float weight, const Channel& channel, T* to, int64_t step,
                       int64_t count))
}  // namespace pyrcnn::preprocess
