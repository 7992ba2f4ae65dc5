// The loops of roi_detections_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "roi_detections.h"

namespace pyrcnn::roi_detections {

// Finds the candidates among `rows` rows of logits [rows, columns] whose softmax exceeds the threshold. Writes their
// numbers, counted from `first`, and scores, ascending by number; returns how many. `work` holds kSums rows of
// `columns` rounded up to kSums.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, scan,
                      (const T* logits, int64_t rows, int64_t columns, int64_t background, const Cut<compute_t<T>>& cut,
                       uint32_t first, compute_t<T>* work, uint32_t* candidates, compute_t<T>* scores))

// Decodes the candidates. Writes the boxes that pass the filter to `boxes` [*, 4] and their i to `ranks`; returns how
// many.
PYRCNN_DECLARE_KERNEL(template <typename C> int64_t, decode_clip_filter,
                      (const Head<C>& head, int64_t image, const ClipLimits<C>& limits, const uint32_t* candidates,
                       int64_t count, C* boxes, uint32_t* ranks))

}  // namespace pyrcnn::roi_detections
