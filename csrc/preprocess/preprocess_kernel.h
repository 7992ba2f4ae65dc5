// The loops of preprocess_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/cpu.h"
#include "preprocess.h"

namespace pyrcnn::preprocess {

// One channel of a source row, resized along x: `count` numbers.
PYRCNN_DECLARE_KERNEL(template <typename S> void, stretch,
                      (const S* row, int64_t step, const Columns& columns, float* to))
// One channel of an output row, from the two source rows that it lies between.
PYRCNN_DECLARE_KERNEL(template <typename T> void, finish,
                      (const float* top, const float* bottom, float weight, const Channel& channel, T* to, int64_t step,
                       int64_t count))
}  // namespace pyrcnn::preprocess
