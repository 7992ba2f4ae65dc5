// heatmap_peaks for match_keypoints, on the device of the maps.
#pragma once
#include "heatmap_peaks_check.h"

namespace pyrcnn::heatmap_peaks {
Peaks find_peaks(const Tensor& heatmap, const Options& options);
}
