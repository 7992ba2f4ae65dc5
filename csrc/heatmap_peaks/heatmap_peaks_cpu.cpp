#include <memory>

#include "common/cpu/parallel.h"
#include "find_peaks.h"
#include "finder.h"
#include "python/kernels.h"

namespace pyrcnn::heatmap_peaks {
namespace {

constexpr double kNanosecondsPerPeak = 20;
constexpr int64_t kCellsWorthAPart = 1 << 15;

// If there are fewer maps than threads, each map is cut into `parts` parts of its memory. These are scanned
// independently, then merged. The ranking is a total order, so the result does not depend on the cuts.
template <typename T> struct PeakSearch {
  using C = compute_t<T>;
  Map<T> map;
  int64_t k, maps, lists;
  double lowest;
  ResultRows<C> rows;
  bool labels;  // a row's class is its number modulo `classes`
  int64_t classes;

  void write(int64_t row, Candidate<C>* found, int64_t count) const {
    rows.write(row, found, sort_best(found, count, k), labels ? row % classes : -1);
  }

  void whole_maps(int64_t cells) const {
    const double cost = double(cells) * kNanosecondsPerCell + double(lists * k) * kNanosecondsPerPeak;
    parallel(maps, cost, [&](int64_t begin, int64_t end) {
      Finder<T> finder(map, k, lists, cells, lowest);
      for (int64_t i = begin; i < end; ++i) {
        finder.scan(i, maps, 0, cells);
        for (int64_t list = 0; list < lists; ++list) write(i * lists + list, finder.list(list), finder.count(list));
      }
    });
  }

  void in_parts(int64_t cells, int64_t parts) const {
    // Each thread creates its own finder, so that memory which is written while scanning shares no cache line with
    // another's.
    std::vector<std::unique_ptr<Finder<T>>> finders(maps * parts);
    parallel(maps * parts, double(cells) / double(parts) * kNanosecondsPerCell, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        finders[i] = std::make_unique<Finder<T>>(map, k, lists, ceil_div(cells, parts), lowest);
        finders[i]->scan(i / parts, maps, cells * (i % parts) / parts, cells * (i % parts + 1) / parts);
      }
    });
    parallel(maps * lists, kNanosecondsPerPeak * double(k), [&](int64_t begin, int64_t end) {
      std::vector<Candidate<C>> all;
      for (int64_t row = begin; row < end; ++row) {
        all.clear();
        for (int64_t part = row / lists * parts; part < (row / lists + 1) * parts; ++part) {
          const Candidate<C>* found = finders[part]->list(row % lists);
          all.insert(all.end(), found, found + finders[part]->count(row % lists));
        }
        write(row, all.data(), int64_t(all.size()));
      }
    });
  }
};

template <typename T> void run(const Tensor& dense_maps, const Options& o, const Peaks& peaks) {
  using C = compute_t<T>;
  Map<T> map = map_of<T>(dense_maps, o);
  const int64_t classes = map.channels, images = dense_maps.size(0);
  const bool planes = o.per_class && !map.channels_last;  // NCHW: each channel is a map of its own
  if (planes) map.channels = 1;
  const int64_t cells = map.channels * map.height * map.width, maps = planes ? images * classes : images;
  const PeakSearch<T> search{map,         o.k,
                             maps,        o.per_class && !planes ? classes : 1,
                             o.lowest,    result_rows_of<C>(peaks, o.k, map.channels, map.width),
                             o.per_class, classes};
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t parts = std::clamp(ceil_div(threads, maps), int64_t{1}, ceil_div(cells, kCellsWorthAPart));
  if (parts == 1) search.whole_maps(cells);
  else search.in_parts(cells, parts);
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> cpu(const Tensor& heatmap, int64_t k, int64_t kernel, bool sigmoid,
                                               double tolerance, bool per_class) {
  Peaks peaks = find_peaks(heatmap, {k, kernel, sigmoid, tolerance, per_class});
  return {peaks.scores, peaks.classes, peaks.ys, peaks.xs};
}

Peaks find_peaks(const Tensor& heatmap, const Options& options) {
  Peaks peaks = check_and_allocate(heatmap, options);
  if (peaks.scores.numel() == 0) return peaks;
  if (heatmap.numel() == 0) {
    for (Tensor* t : {&peaks.scores, &peaks.classes, &peaks.ys, &peaks.xs}) torch::stable::zero_(*t);
    return peaks;
  }
  const Tensor maps = dense(heatmap);
  dispatch_floating(maps, "heatmap", [&](auto type) { run<typename decltype(type)::type>(maps, options, peaks); });
  return peaks;
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("heatmap_peaks", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::heatmap_peaks
