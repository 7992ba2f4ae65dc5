// The loop of match_keypoints_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/cpu.h"
#include "match_keypoints.h"

namespace pyrcnn::match_keypoints {

// All detections of joint `joint` of image `n`. Moves the candidates from their cells to where they are.
PYRCNN_DECLARE_KERNEL(template <typename T> void, match,
                      (const Maps<T>& maps, const Detections<T>& detections, int64_t n, int64_t joint,
                       const Candidates<T>& candidates))
}  // namespace pyrcnn::match_keypoints
