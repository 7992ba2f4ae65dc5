// The loops of decode_boxes_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "decode_boxes.h"

namespace pyrcnn::decode_boxes {
PYRCNN_DECLARE_KERNEL(template <typename K> void, rows, (const K& kernel, int64_t begin, int64_t end))
}  // namespace pyrcnn::decode_boxes
