// heatmap_peaks on the CPU, as match_keypoints calls it.
#pragma once
#include "heatmap_peaks_check.h"

namespace pyrcnn::heatmap_peaks {
Peaks find_peaks(const Tensor& heatmap, const Options& options);
}
