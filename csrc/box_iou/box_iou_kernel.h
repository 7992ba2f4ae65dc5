// The loops of box_iou_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "box_iou.h"

namespace pyrcnn::box_iou {
PYRCNN_DECLARE_KERNEL(template <typename T> void, rows, (const Forward<T>& job, int64_t begin, int64_t end))
PYRCNN_DECLARE_KERNEL(template <typename T> void, columns, (const Backward<T>& job, int64_t begin, int64_t end))
}  // namespace pyrcnn::box_iou
