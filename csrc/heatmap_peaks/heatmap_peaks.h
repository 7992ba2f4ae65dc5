// heatmap_peaks: the k best local maxima of each image's class maps (Zhou et al. 2019, "Objects as Points": a 3x3
// maximum instead of NMS). What a peak is and how peaks are ranked, for CPU and CUDA alike.
#pragma once
#include "common/math/exp.h"
#include "common/math/quotient.h"

namespace pyrcnn::heatmap_peaks {

// F is float, double or a pack.
template <typename F> PYRCNN_HD F sigmoid(F x) {
  const F one = F{} + 1.0f;
  return one / (one + exp_of(-x));
}

// A value below which no score reaches `score`. The margin covers the rounding of sigmoid, of its inverse and of C.
template <typename C> PYRCNN_HD C floor_of(C score, bool logits) {
  if (!logits) return score;
  const double p = double(score) * (1 - 4e-5);
  return C(::log(p / (1 - p)));
}

// Candidates are ranked by score, equal scores by cell, then by class: rank = (y * width + x) * channels + class.
// Scores are positive.
template <typename C> struct Candidate {
  C score;
  int64_t rank;
};
template <typename C> PYRCNN_HD bool better(const Candidate<C>& a, const Candidate<C>& b) {
  return a.score > b.score || (a.score == b.score && a.rank < b.rank);
}

// The maps of one image, or with channels = 1 one map, in either memory format.
template <typename T> struct Map {
  using C = compute_t<T>;
  const T* values;
  int64_t channels, height, width, radius;
  bool channels_last, logits;
  C tolerance;

  PYRCNN_HD C score(C value) const { return logits ? sigmoid(value) : value; }

  PYRCNN_HD int64_t rank(int64_t position) const {
    if (channels_last || channels == 1) return position;
    const int64_t area = height * width, plane = position / area;
    return (position - plane * area) * channels + plane;
  }

  // Is the cell at a position in memory, whose score is positive, a peak? No neighbour may exceed it, or with a
  // tolerance, no neighbour may exceed it by `tolerance` or more in score. NaN is no peak, and NaN neighbours are
  // ignored.
  PYRCNN_HD bool is_peak(int64_t position) const {
    const int64_t area = height * width;
    const int64_t inner = channels_last ? channels : area, outer_at = quotient(position, inner);
    const int64_t cell = channels_last ? outer_at : position - outer_at * inner;
    const int64_t y = quotient(cell, width), x = cell - y * width, step = channels_last ? channels : 1;
    const C value = C(values[position]);
    C highest = value;
    for (int64_t v = higher(y - radius, int64_t{0}); v <= lower(y + radius, height - 1); ++v) {
      const T* row = values + position + (v - y) * width * step;
      for (int64_t u = higher(x - radius, int64_t{0}); u <= lower(x + radius, width - 1); ++u)
        highest = higher(C(row[(u - x) * step]), highest);
      if (highest > value && !(tolerance > 0)) return false;
    }
    return highest == value || score(highest) - score(value) < tolerance;
  }

  // The candidate at a position in memory, with score 0 if there is no peak.
  PYRCNN_HD Candidate<C> judge(int64_t position) const {
    if (!is_peak(position)) return {C(0), 0};
    const C own = score(C(values[position]));
    return {own > 0 ? own : C(0), rank(position)};
  }
};

constexpr int64_t kMostLanes = 16;

// A part of one image's memory, and the best candidates found in it so far, in one list, or in one list per channel (of
// a channels_last map). When a list is full, only its k best are kept. Its floor then rises to the lowest value that
// can still be among the k best, so that most of the map is only compared with the floor. A list holds (value,
// position) at first; all its candidates get their scores and ranks when it is full, and at the end.
template <typename T> struct Scan {
  using C = compute_t<T>;
  Map<T> map;
  int64_t k, capacity, lists;
  Candidate<C>* items;                 // [lists, capacity]
  int64_t* counts;                     // [lists]
  int64_t* scored;                     // [lists]: so many, the first ones, have a score, which is positive
  C* floors;                           // [lists + kMostLanes]; the end repeats the beginning
  bool after_another, before_another;  // is there a map before this one in memory, and after it?
  void (*keep_best)(Candidate<C>* items, int64_t k,
                    int64_t count);  // moves the k best to the front, the worst of them last
};

}  // namespace pyrcnn::heatmap_peaks
