// The loop of match_keypoints_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "match_keypoints.h"

namespace pyrcnn::match_keypoints {

// Matches joint `joint` of all detections of image `n`. Adds the offsets to the candidates' ys and xs.
PYRCNN_DECLARE_KERNEL(template <typename T> void, match,
                      (const Maps<T>& maps, const Detections<T>& detections, int64_t n, int64_t joint,
                       const Candidates<T>& candidates))
}  // namespace pyrcnn::match_keypoints
