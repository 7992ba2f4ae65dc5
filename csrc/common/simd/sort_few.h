// The order of up to kFewKeys keys. For *_cpu.cpp; compiled once per instruction set in sort_few_kernel.cpp.
#pragma once
#include "common/cpu/cpu.h"
#include "common/math/score_key.h"

namespace pyrcnn {

// Sets order[0..count) to the indices of `keys` by ascending key, equal keys by lower index; count <= kFewKeys. Counts
// for each key the smaller ones, which for so few is faster than a radix sort (nms of 100 boxes: 7.6 -> 6.0 us).
PYRCNN_DECLARE_KERNEL(void, sort_few, (const uint32_t* keys, int64_t count, uint32_t* order))

}  // namespace pyrcnn
