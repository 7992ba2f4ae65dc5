// heatmap_peaks as match_keypoints calls it, on the device of the maps.
#pragma once
#include "heatmap_peaks_check.h"

namespace pyrcnn::heatmap_peaks {
Peaks find_peaks(const Tensor& heatmap, const Options& options);
}
