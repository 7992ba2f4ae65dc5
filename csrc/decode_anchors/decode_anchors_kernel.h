// The loops of decode_anchors_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "decode_anchors.h"

namespace pyrcnn::decode_anchors {
PYRCNN_DECLARE_KERNEL(template <typename T> void, rows,
                      (const Level<T>& level, const Rules<compute_t<T>>& rules, const Anchors<compute_t<T>>& table,
                       int64_t begin, int64_t end))
}  // namespace pyrcnn::decode_anchors
