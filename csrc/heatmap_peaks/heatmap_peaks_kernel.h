// The scan of heatmap_peaks_kernel.cpp, one version per instruction set.
#pragma once
#include "common/cpu/kernel.h"
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks {

PYRCNN_DECLARE_KERNEL(template <typename T> void, scan, (const Scan<T>& part, int64_t begin, int64_t end))
}  // namespace pyrcnn::heatmap_peaks
