// Greedy suppression of one set of candidates, by the method that choose.h names. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <cmath>

#include "by_pairs.h"
#include "choose.h"

namespace pyrcnn::nms {

template <typename T>
int64_t suppress_indexed(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, uint32_t* kept) {
  using C = compute_t<T>;
  const int64_t n = candidates.count;
  const auto positions = scratch<uint32_t>(bundles_for(n) * kBundle);
  {
    const auto bins = scratch<uint32_t>(kBins), sorted = scratch<uint32_t>(n);
    PYRCNN_KERNEL_OF(nms, sort_along_curve<T>)(candidates, positions.get(), bins.get(), sorted.get());
  }
  const int64_t leaves = ceil_div(bundles_for(n), kBundle) * kBundle;
  const int64_t per_branch = ceil_div(int64_t(std::sqrt(double(leaves))), kBundle) * kBundle;
  const int64_t branches = ceil_div(ceil_div(leaves, per_branch), kBundle) * kBundle;
  const auto bundles = scratch<BoxBundle<C>>(leaves);
  const int64_t nodes = branches * per_branch;
  std::vector<uint32_t> sizes(nodes);
  const auto bounds = scratch<C>(8 * (nodes + branches));
  const KeptIndex<C> index{positions.get(),       per_branch,
                           bundles.get(),         sizes.data(),
                           {bounds.get(), nodes}, {bounds.get() + 8 * nodes, branches}};
  return PYRCNN_KERNEL_OF(nms, greedy_indexed<T>)(candidates, index, threshold, max_output, kept);
}

template <typename T>
int64_t suppress_in_turn(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, uint32_t* kept) {
  const auto bundles = scratch<BoxBundle<compute_t<T>>>(bundles_for(std::min(candidates.count, max_output)));
  return PYRCNN_KERNEL_OF(nms, greedy<T>)(candidates, threshold, max_output, bundles.get(), kept);
}

// Writes the numbers i of the candidates that are kept to `kept`, ascending, max_output of them at most, and returns
// how many. Compares every candidate with those kept before it.
template <typename T>
int64_t suppress_sequentially(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output,
                              uint32_t* kept) {
  if (choose_sequential(candidates.count, max_output, threshold) == Method::kIndexed)
    return suppress_indexed(candidates, threshold, max_output, kept);
  return suppress_in_turn(candidates, threshold, max_output, kept);
}

// The same result by any method.
template <typename T>
int64_t suppress(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, uint32_t* kept) {
  const int64_t n = candidates.count;
  const Method method = choose(candidates, threshold, max_output);
  if (method == Method::kInTurn) return suppress_in_turn(candidates, threshold, max_output, kept);
  if (method == Method::kByPairs) {
    const std::vector<uint8_t> suppressed = suppressed_by_pairs(candidates, threshold);
    if (!suppressed.empty()) {
      int64_t count = 0;
      for (int64_t i = 0; i < n && count < max_output; ++i) kept[count] = uint32_t(i), count += 1 ^ suppressed[i];
      return count;
    }
  }
  return suppress_sequentially(candidates, threshold, max_output, kept);
}

}  // namespace pyrcnn::nms
