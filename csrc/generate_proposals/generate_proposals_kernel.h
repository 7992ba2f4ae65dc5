// The loops of generate_proposals_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "generate_proposals.h"

namespace pyrcnn::generate_proposals {

// Writes the i in [0, count) with low <= values[i] < inf to `found`, ascending, and returns how many.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, at_least,
                      (const T* values, int64_t count, compute_t<T> low, uint32_t* found))

// Decodes the anchors indices[0..count) of one image. Writes the boxes that pass the filter to `boxes` [*, 4] and their
// i to `ranks`; returns how many.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, decode_clip_filter,
                      (const Level<T>& level, const Rules<compute_t<T>>& rules, int64_t image,
                       const ClipLimits<compute_t<T>>& limits, const uint32_t* indices, int64_t count,
                       compute_t<T>* boxes, uint32_t* ranks))

// In place. Processes `count` rounded up to a multiple of 16, and so many must exist.
PYRCNN_DECLARE_KERNEL(template <typename C> void, sigmoid, (C * values, int64_t count))

}  // namespace pyrcnn::generate_proposals
