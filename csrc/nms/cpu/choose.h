// Which method suppresses a set of boxes on the CPU: the thresholds, and the measurements behind them. Every method
// gives the same result. Uses std, so it is for *_cpu.cpp.
//
// | method   | used for                                | measured (one thread, AVX2, a shared AMD EPYC)             |
// |----------|-----------------------------------------|------------------------------------------------------------|
// | in turn  | fewer than 640 boxes that may be kept;  | below 640 boxes the index does not repay its sorting;      |
// |          | thresholds that Screen cannot use       | 1,000 random boxes take 119 us in turn, 93 us indexed      |
// |          | or a sample says that few are kept      | around 100 objects, 5,000 boxes 0.40 -> 0.19 ms, 20,000    |
// |          |                                         | 2.5 -> 0.9 ms; around 24 objects 0.36 -> 0.12, 1.9 -> 0.5  |
// | indexed  | 640 boxes and more                      | 5,000 boxes 1.03 -> 0.65 ms, 20,000 8.3 -> 4.8 ms;         |
// |          |                                         | random boxes of all sizes gain nothing, 4.7 -> 5.4 ms      |
// | by pairs | 160 boxes and more, if a sample says    | 1,000 boxes 67-80 -> 25-36 us, 5,000 620 -> 190-240 us,    |
// |          | that few suppress each other, and half  | 20,000 4.4 -> 1.4-1.6 ms, 20,000 random 5.0 -> 3.5 ms      |
// |          | of them or more may be kept             |                                                            |
// | by pairs | batched_nms of 160 boxes and more, 8 a  | 20,000 boxes of 80 classes 1,230 -> 820 us; group by       |
// | for all  | group and more, if a sample of the      | group, 250 boxes each, nothing: 8.4 -> 8.6 us a group      |
// | groups   | largest group says so                   |                                                            |
#pragma once
#include <algorithm>
#include <vector>

#include "grouping.h"
#include "kernels.h"

namespace pyrcnn::nms {

constexpr int64_t kLeastBoxesForIndex = 640;
constexpr int64_t kLeastBoxesForPairs = 160;
constexpr int64_t kLeastBoxesOfAGroup = 8;  // on average

// Estimated nanoseconds, by which a second thread is woken (common/cpu/parallel.h): for a box whose score is sorted and
// whose pairs are found; two threads are 1.2-1.4 times as fast for 1,000 boxes, 1.6-1.8 times for 5,000.
constexpr double kPairsCost = 40;
// For a set of `n` candidates that is suppressed by one thread, and of which half are kept.
inline double suppression_cost(double n) { return n * (20 + 0.05 * n); }

enum class Method { kInTurn, kIndexed, kByPairs };

// Between the two methods that compare candidates with kept boxes.
template <typename C> Method choose_sequential(int64_t candidates, int64_t max_output, C threshold) {
  const bool many = std::min(candidates, max_output) >= kLeastBoxesForIndex;
  return many && Screen<C>(threshold).usable ? Method::kIndexed : Method::kInTurn;
}

// How many boxes of a sample of the candidates are kept.
struct Sample {
  int64_t count, kept;

  // Of `n` candidates, n / count squared times as many pairs suppress each other. The limit per box rises from 1 to 6,
  // because the other methods take longer per box the more boxes there are.
  bool pairs_are_few(int64_t n) const {
    const double pairs = double(count - kept) * double(n) / double(count) * double(n) / double(count);
    return pairs < std::min(1 + double(n) / 2500, 6.0) * double(n);
  }
  // Where most of the sample is suppressed, nearly all objects have a box in it: few boxes more are kept of all.
  bool kept_are_few() const { return 2 * kept < count; }
};

template <typename T> Sample sample(const Candidates<T>& candidates, compute_t<T> threshold) {
  constexpr int64_t kMost = 512;
  const int64_t n = candidates.count, some = std::clamp<int64_t>(n / 12, 32, kMost), apart = n / some;
  uint32_t rows[kMost], kept[kMost];
  for (int64_t i = 0; i < some; ++i) {  // at varying distances, because boxes may come in rows of equal length
    const int64_t at = i * n / some + (int64_t(uint32_t(i) * 2654435769u) * apart >> 32);
    rows[i] = candidates.rows == nullptr ? uint32_t(at) : candidates.rows[at];
  }
  const auto bundles = scratch<BoxBundle<compute_t<T>>>(bundles_for(some));
  return {some, PYRCNN_KERNEL_OF(nms, greedy<T>)({candidates.boxes, rows, some}, threshold, some, bundles.get(), kept)};
}

// For candidates of several groups, whose pairs are found together.
template <typename T> bool pairs_pay(const Candidates<T>& candidates, const Grouping& groups, compute_t<T> threshold) {
  const std::vector<uint32_t>& sizes = groups.sizes;
  const int64_t n = candidates.count;
  if (n < kLeastBoxesForPairs || n < kLeastBoxesOfAGroup * int64_t(sizes.size())) return false;
  const uint32_t largest = uint32_t(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
  std::vector<uint32_t> rows;
  for (int64_t i = 0; i < n; ++i)
    if (groups.of[i] == largest) rows.push_back(uint32_t(i));
  if (!Screen<compute_t<T>>(threshold).usable) return false;
  const int64_t most = int64_t(rows.size());
  return sample(Candidates<T>{candidates.boxes, rows.data(), most}, threshold).pairs_are_few(most);
}

// For one set of candidates in score order.
template <typename T> Method choose(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output) {
  const int64_t n = candidates.count;
  const Method sequential = choose_sequential(n, max_output, threshold);
  const bool by_pairs = n >= kLeastBoxesForPairs && max_output >= n / 2 && Screen<compute_t<T>>(threshold).usable;
  if (!by_pairs && sequential == Method::kInTurn) return sequential;
  const Sample some = sample(candidates, threshold);
  if (by_pairs && some.pairs_are_few(n)) return Method::kByPairs;
  return some.kept_are_few() ? Method::kInTurn : sequential;
}

}  // namespace pyrcnn::nms
