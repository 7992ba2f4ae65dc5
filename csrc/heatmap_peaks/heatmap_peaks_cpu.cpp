#include "find_peaks.h"

#include <algorithm>
#include <limits>

#include "../common/sort.h"
#include "../nms/nms_kernel.h"
#include "heatmap_peaks_kernel.h"

namespace pyrcnn::heatmap_peaks {
namespace {

constexpr double kNanosecondsPerCell = 0.2, kNanosecondsPerPeak = 20;
constexpr int64_t kCellsWorthAPart = 1 << 15;

template <typename C> void keep_best(Candidate<C>* items, int64_t k, int64_t count) {
  std::nth_element(items, items + k - 1, items + count, [](const auto& a, const auto& b) { return better(a, b); });
}

// The k best of `all` (or all of them), in order.
template <typename C> std::vector<Candidate<C>> sorted(std::vector<Candidate<C>>& all, int64_t k) {
  const int64_t count = int64_t(all.size()), kept = std::min(k, count);
  if constexpr (sizeof(C) == 4) {
    if (count <= nms::kFew) {
      uint32_t keys[nms::kFew], order[nms::kFew];
      for (int64_t i = 0; i < count; ++i) keys[i] = descending_key(all[i].score);
      PYRCNN_KERNEL_OF(nms, sort_few)(keys, count, order);
      std::vector<Candidate<C>> result(count);
      for (int64_t i = 0; i < count; ++i) result[i] = all[order[i]];
      for (int64_t i = 1; i < count; ++i)  // equal scores: few, and mostly in order already
        for (int64_t at = i; at > 0 && better(result[at], result[at - 1]); --at) std::swap(result[at], result[at - 1]);
      result.resize(kept);
      return result;
    }
  }
  std::partial_sort(all.begin(), all.begin() + kept, all.end(), better<C>);
  all.resize(kept);
  return std::move(all);
}

// `maps` maps, each cut into `parts` parts of memory that are scanned on their own and then merged: the ranking is a
// total order, so the result does not depend on the cut.
template <typename T> struct Search {
  using C = compute_t<T>;
  Map<T> map;
  int64_t k, maps, parts, lists, cells;
  int64_t capacity, floors_per_part;
  std::vector<Candidate<C>> items;  // [maps, parts, lists, capacity]
  std::vector<int64_t> counts;      // [maps, parts, lists]
  std::vector<int64_t> scored;      // [maps, parts, lists]
  std::vector<C> floors;

  Search(const Map<T>& map, int64_t k, int64_t maps, int64_t lists, double lowest_score)
      : map(map), k(k), maps(maps), lists(lists), cells(map.channels * map.height * map.width) {
    const int64_t threads = torch::stable::get_num_threads();
    parts = std::clamp(ceil_div(threads, maps), int64_t{1}, ceil_div(cells, kCellsWorthAPart));
    const int64_t longest = ceil_div(cells, parts);
    capacity = k >= longest ? longest : std::min(longest, std::max(2 * k, k + 256));
    floors_per_part = lists + kMostLanes;
    items.resize(maps * parts * lists * capacity);
    counts.resize(maps * parts * lists, 0);
    scored.resize(maps * parts * lists, 0);
    C lowest = map.logits ? -std::numeric_limits<C>::infinity() : std::numeric_limits<C>::denorm_min();
    if (lowest_score > 0) lowest = floor_of(C(lowest_score), map.logits);
    floors.resize(maps * parts * floors_per_part, lowest);
  }

  void scan_part(int64_t index) {
    Scan<T> part{map,
                 k,
                 capacity,
                 lists,
                 items.data() + index * lists * capacity,
                 counts.data() + index * lists,
                 scored.data() + index * lists,
                 floors.data() + index * floors_per_part,
                 index / parts > 0,
                 index / parts + 1 < maps,
                 &keep_best<C>};
    part.map.values += index / parts * cells;
    const int64_t i = index % parts;
    PYRCNN_KERNEL(scan<T>)(part, cells * i / parts, cells * (i + 1) / parts);
  }

  // The best candidates of a map's list, in order: at most k.
  std::vector<Candidate<C>> best(int64_t index, int64_t list) const {
    std::vector<Candidate<C>> all;
    for (int64_t part = index * parts; part < (index + 1) * parts; ++part) {
      const Candidate<C>* from = items.data() + (part * lists + list) * capacity;
      all.insert(all.end(), from, from + counts[part * lists + list]);
    }
    return sorted(all, k);
  }
};

// Row r of the outputs is list r % lists of map r / lists; its class is r % classes where candidates do not tell.
template <typename T> void run(const Tensor& dense_maps, const Options& o, Peaks& peaks) {
  using C = compute_t<T>;
  Map<T> map = map_of<T>(dense_maps, o);
  const int64_t classes = map.channels, images = dense_maps.size(0);
  const bool planes = o.per_class && !map.channels_last;  // NCHW: each channel is a map of its own
  if (planes) map.channels = 1;
  Search<T> search(map, o.k, planes ? images * classes : images, o.per_class && !planes ? classes : 1, o.lowest);
  parallel(search.maps * search.parts, double(search.cells) / double(search.parts) * kNanosecondsPerCell,
           [&](int64_t begin, int64_t end) {
             for (int64_t i = begin; i < end; ++i) search.scan_part(i);
           });
  C* scores = mutable_data<C>(peaks.scores);
  int64_t* labels = mutable_data<int64_t>(peaks.classes);
  int64_t *ys = mutable_data<int64_t>(peaks.ys), *xs = mutable_data<int64_t>(peaks.xs);
  parallel(search.maps * search.lists, kNanosecondsPerPeak * double(o.k), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto best = search.best(row / search.lists, row % search.lists);
      const int64_t label = row % classes;
      for (int64_t i = 0; i < o.k; ++i) {
        const int64_t to = row * o.k + i;
        const bool found = i < int64_t(best.size());
        const int64_t rank = found ? best[i].rank : 0, cell = map.channels == 1 ? rank : rank / map.channels;
        scores[to] = found ? best[i].score : C(0);
        labels[to] = o.per_class ? label : rank - cell * map.channels;
        ys[to] = cell / map.width, xs[to] = cell - ys[to] * map.width;
      }
    }
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cpu(const Tensor& heatmap, int64_t k, int64_t kernel, bool sigmoid,
                                               double tolerance, bool per_class) {
  Peaks peaks = find_peaks(heatmap, {k, kernel, sigmoid, tolerance, per_class});
  return {peaks.scores, peaks.classes, peaks.ys, peaks.xs};
}

}  // namespace

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

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("heatmap_peaks", TORCH_BOX(&cpu)); }
}  // namespace pyrcnn::heatmap_peaks
