// The loops of match_boxes_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "match_boxes_loops.h"

namespace pyrcnn::match_boxes {
PYRCNN_DECLARE_KERNEL(template <typename T> void, best_truths,
                      (const Image<T>& image, int64_t begin, int64_t end, compute_t<T>* best))
}  // namespace pyrcnn::match_boxes
