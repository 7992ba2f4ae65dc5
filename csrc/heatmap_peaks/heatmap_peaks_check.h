// Checks the arguments of heatmap_peaks and allocates its results, for CPU and CUDA alike.
#pragma once
#include "common/cpu/results.h"
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks {

struct Options {
  int64_t k, kernel;
  bool sigmoid;
  double tolerance;
  bool per_class;
  double lowest = 0;  // peaks of a lower score need not be found
};

// scores in the compute type; classes, ys and xs int64; all [N, k], or [N, C, k] when each class has its own k.
struct Peaks {
  Tensor scores, classes, ys, xs;
};

inline void check_arguments(const Tensor& heatmap, const Options& o) {
  check_sizes("heatmap", heatmap);
  check(heatmap.dim() == 4, "heatmap must be [N, C, H, W], got ", shape(heatmap));
  check(o.k >= 0, "k must not be negative, got ", o.k);
  check(o.kernel > 0 && o.kernel % 2 == 1, "kernel must be odd and positive, got ", o.kernel);
  check(o.tolerance >= 0, "tolerance must not be negative, got ", o.tolerance);
}

inline Peaks check_and_allocate(const Tensor& heatmap, const Options& o) {
  check_arguments(heatmap, o);
  const bool wide = heatmap.scalar_type() == ScalarType::Double;
  const auto make = [&](ScalarType type) {
    if (o.per_class) return fresh_like("k", heatmap, {heatmap.size(0), heatmap.size(1), o.k}, type);
    return fresh_like("k", heatmap, {heatmap.size(0), o.k}, type);
  };
  return {make(wide ? ScalarType::Double : ScalarType::Float), make(ScalarType::Long), make(ScalarType::Long),
          make(ScalarType::Long)};
}

template <typename T> Map<T> map_of(const Tensor& maps, const Options& o) {
  return {data<T>(maps), maps.size(1),           maps.size(2), maps.size(3),
          o.kernel / 2,  is_channels_last(maps), o.sigmoid,    compute_t<T>(o.tolerance)};
}

}  // namespace pyrcnn::heatmap_peaks
