// Finds peaks on the CPU: what one thread keeps while it scans. Uses std, so it is for *_cpu.cpp only.
#pragma once
#include <algorithm>
#include <limits>

#include "common/simd/sort.h"
#include "common/cpu/sort_few.h"
#include "heatmap_peaks_check.h"
#include "heatmap_peaks_kernel.h"

namespace pyrcnn::heatmap_peaks {

constexpr double kNanosecondsPerCell = 0.2;

template <typename C> void keep_best(Candidate<C>* items, int64_t k, int64_t count) {
  std::nth_element(items, items + k - 1, items + count, [](const auto& a, const auto& b) { return better(a, b); });
}

// Moves the k best of `items` (or all of them) to the front, in order; returns how many.
template <typename C> int64_t sort_best(Candidate<C>* items, int64_t count, int64_t k) {
  if constexpr (sizeof(C) == 4) {
    if (count <= kFewKeys) {
      uint32_t keys[kFewKeys], order[kFewKeys];
      Candidate<C> unsorted[kFewKeys];
      for (int64_t i = 0; i < count; ++i) keys[i] = descending_key(items[i].score), unsorted[i] = items[i];
      PYRCNN_KERNEL_OF(pyrcnn, sort_few)(keys, count, order);
      for (int64_t i = 0; i < count; ++i) {  // orders equal scores, which are few and mostly in order
        int64_t at = i;
        for (const Candidate<C>& item = unsorted[order[i]]; at > 0 && better(item, items[at - 1]); --at)
          items[at] = items[at - 1];
        items[at] = unsorted[order[i]];
      }
      return std::min(k, count);
    }
  }
  std::partial_sort(items, items + std::min(k, count), items + count, better<C>);
  return std::min(k, count);
}

// The best peaks of a map, or of a part of it, in one list, or in one list per channel (of an NHWC map).
template <typename T> class Finder {
  using C = compute_t<T>;

 public:
  // `longest`: the greatest number of cells that are scanned for one map.
  Finder(const Map<T>& map, int64_t k, int64_t lists, int64_t longest, double lowest_score)
      : map_(map),
        k_(k),
        lists_(lists),
        capacity_(k >= longest ? longest : std::min(longest, std::max(2 * k, k + 256))),
        lowest_(map.logits ? -std::numeric_limits<C>::infinity() : std::numeric_limits<C>::denorm_min()),
        items_(new Candidate<C>[lists * capacity_]),
        counts_(2 * lists),
        floors_(lists + kMostLanes) {
    if (lowest_score > 0) lowest_ = floor_of(C(lowest_score), map.logits);
  }

  // Scans values [begin, end) of map `index` of `maps` contiguous maps.
  void scan(int64_t index, int64_t maps, int64_t begin, int64_t end) {
    std::fill(counts_.begin(), counts_.end(), 0);
    std::fill(floors_.begin(), floors_.end(), lowest_);
    Scan<T> part{map_,
                 k_,
                 capacity_,
                 lists_,
                 items_.get(),
                 counts_.data(),
                 counts_.data() + lists_,
                 floors_.data(),
                 index > 0,
                 index + 1 < maps,
                 &keep_best<C>};
    part.map.values += index * map_.channels * map_.height * map_.width;
    PYRCNN_KERNEL(scan<T>)(part, begin, end);
  }

  // A list of the last scan, in no order: about 2 * k candidates at most.
  Candidate<C>* list(int64_t i) { return items_.get() + i * capacity_; }
  int64_t count(int64_t i) const { return counts_[i]; }

 private:
  Map<T> map_;
  int64_t k_, lists_, capacity_;
  C lowest_;
  std::unique_ptr<Candidate<C>[]> items_;  // [lists, capacity]
  std::vector<int64_t> counts_;            // [lists] how many there are, then [lists] how many of them have a score
  std::vector<C> floors_;
};

// Where the candidates of a list are written: k for each list; missing ones are 0.
template <typename C> struct ResultRows {
  C* scores;
  int64_t *classes, *ys, *xs;
  int64_t k, channels, width;

  // `label`: the class of all of them, or -1 if the ranks contain the class.
  void write(int64_t row, const Candidate<C>* sorted, int64_t count, int64_t label) const {
    for (int64_t i = 0, to = row * k; i < k; ++i, ++to) {
      const int64_t rank = i < count ? sorted[i].rank : 0, cell = channels == 1 ? rank : rank / channels;
      scores[to] = i < count ? sorted[i].score : C(0);
      classes[to] = label >= 0 ? label : rank - cell * channels;
      ys[to] = cell / width, xs[to] = cell - ys[to] * width;
    }
  }
};
template <typename C> ResultRows<C> result_rows_of(const Peaks& peaks, int64_t k, int64_t channels, int64_t width) {
  return {mutable_data<C>(peaks.scores),
          mutable_data<int64_t>(peaks.classes),
          mutable_data<int64_t>(peaks.ys),
          mutable_data<int64_t>(peaks.xs),
          k,
          channels,
          width};
}

}  // namespace pyrcnn::heatmap_peaks
