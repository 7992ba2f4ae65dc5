// nms, batched_nms and nms_padded on the CPU.
#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "common/simd/sort.h"
#include "common/cpu/sort_few.h"
#include "nms/check.h"
#include "python/kernels.h"
#include "suppress.h"

namespace pyrcnn::nms {
namespace {

// Where the items of each group begin, and the end of the last; a group of n items takes size(n) places.
template <typename F> std::vector<int64_t> begins(const std::vector<uint32_t>& sizes, const F& size) {
  std::vector<int64_t> result(sizes.size() + 1);
  for (size_t g = 0; g < sizes.size(); ++g) result[g + 1] = result[g] + size(sizes[g]);
  return result;
}

template <typename T> void sort_scores(const T* scores, int64_t n, uint32_t* order) {
  if constexpr (sizeof(compute_t<T>) == 4) {
    if (n <= kFewKeys) {
      uint32_t keys[kFewKeys];
      for (int64_t i = 0; i < n; ++i) keys[i] = descending_key(float(scores[i]));
      return PYRCNN_KERNEL_OF(pyrcnn, sort_few)(keys, n, order);
    }
  }
  sort_descending(scores, n, order);
}

// The first part of nms and batched_nms: the order of the scores, the groups of the boxes and, if finding pairs pays,
// which boxes are suppressed. One thread sorts the scores while another lays out the bundles of boxes.
template <typename T> struct SortAndPairs {
  using C = compute_t<T>;
  std::unique_ptr<uint32_t[]> order;  // best first
  std::optional<Grouping> groups;
  std::vector<uint8_t> suppressed;  // 1 or 0 by rank; empty if pairs do not pay
  Method method = Method::kInTurn;  // that a sample of the boxes of one group suggests

  // group_values: int64, or null if there is one group.
  SortAndPairs(const T* boxes, const T* scores, const Tensor* group_values, int64_t n, C threshold)
      : order(scratch<uint32_t>(n)) {
    suppressed = with_word_for(n, [&](auto word) -> std::vector<uint8_t> {
      const Candidates<T> all{boxes, nullptr, n};
      ByPairs<T, decltype(word)> by_pairs(all, threshold);
      Team::run(kPairsCost * double(n), [&](Team::Member& member) {
        member.share(2, [&](int64_t task) {
          if (task == 0) by_pairs.rank_of = sort(scores, n);
          else by_pairs.layout = lay_out_if_it_pays(all, group_values, threshold);
        });
        if (!member.failed() && by_pairs.layout) by_pairs.find(member);
      });
      if (!by_pairs.layout) return {};
      return by_pairs.suppressed();
    });
  }

 private:
  // Sets `order`; returns the rank of each box, or null if there are too few boxes for pairs to pay.
  std::unique_ptr<uint32_t[]> sort(const T* scores, int64_t n) {
    sort_scores(scores, n, order.get());
    if (n < kLeastBoxesForPairs) return nullptr;
    auto rank_of = scratch<uint32_t>(n);
    for (int64_t i = 0; i < n; ++i) rank_of[order[i]] = uint32_t(i);
    return rank_of;
  }
  std::optional<BundleLayout<C>> lay_out_if_it_pays(const Candidates<T>& all, const Tensor* group_values, C threshold) {
    if (group_values == nullptr) {
      method = choose(all, threshold, all.count);
      if (method == Method::kByPairs) return lay_out(all, nullptr, {uint32_t(all.count)});
    } else {
      groups.emplace(data<int64_t>(*group_values), nullptr, all.count);
      if (pairs_pay(all, *groups, threshold)) return lay_out(all, groups->of.data(), groups->sizes);
    }
    return std::nullopt;
  }
};

// The boxes that are not suppressed, by descending score.
Tensor remaining(const uint32_t* order, const std::vector<uint8_t>& suppressed) {
  int64_t count = 0;
  for (const uint8_t is_suppressed : suppressed) count += 1 ^ is_suppressed;
  Tensor indices = fresh({count}, ScalarType::Long);
  int64_t *to = mutable_data<int64_t>(indices), *end = to + count;
  // Without a branch, which would be mispredicted for up to every second box.
  for (int64_t i = 0; to < end; ++i) *to = order[i], to += 1 ^ suppressed[i];
  return indices;
}

}  // namespace

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  check_nms(boxes, scores);
  const int64_t n = boxes.size(0);
  const Tensor b = as_contiguous(boxes), s = as_contiguous(scores);
  return dispatch_floating(boxes, "boxes", [&](auto type) {
    using T = typename decltype(type)::type;
    const compute_t<T> threshold(iou_threshold);
    const SortAndPairs<T> start(data<T>(b), data<T>(s), nullptr, n, threshold);
    const uint32_t* order = start.order.get();
    if (!start.suppressed.empty()) return remaining(order, start.suppressed);
    const auto kept = scratch<uint32_t>(n);
    const Candidates<T> sorted{data<T>(b), order, n};
    const int64_t count = start.method == Method::kInTurn ? suppress_in_turn(sorted, threshold, n, kept.get())
                                                          : suppress_sequentially(sorted, threshold, n, kept.get());
    Tensor indices = fresh({count}, ScalarType::Long);
    int64_t* to = mutable_data<int64_t>(indices);
    for (int64_t i = 0; i < count; ++i) to[i] = order[kept[i]];
    return indices;
  });
}

namespace {

// Suppresses the groups one by one; returns 1 or 0 by rank.
template <typename T>
std::vector<uint8_t> suppressed_by_group(const T* boxes, const uint32_t* order, const Grouping& groups,
                                         compute_t<T> threshold) {
  const int64_t n = int64_t(groups.of.size()), group_count = int64_t(groups.sizes.size());
  const auto rows = scratch<uint32_t>(n), ranks = scratch<uint32_t>(n), kept = scratch<uint32_t>(n);
  const auto first = begins(groups.sizes, [](uint32_t size) { return int64_t(size); });
  std::vector<int64_t> next(first);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = next[groups.of[order[i]]]++;
    rows[at] = order[i], ranks[at] = uint32_t(i);
  }
  std::vector<uint8_t> suppressed(n, 1);
  parallel(group_count, suppression_cost(double(n) / double(group_count)), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t size = groups.sizes[g];
      const int64_t count =
          suppress(Candidates<T>{boxes, rows.get() + first[g], size}, threshold, size, kept.get() + first[g]);
      for (int64_t i = 0; i < count; ++i) suppressed[ranks[first[g] + kept[first[g] + i]]] = 0;
    }
  });
  return suppressed;
}

}  // namespace

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs, double iou_threshold) {
  const Tensor values = check_batched_nms(boxes, scores, idxs);
  const int64_t n = boxes.size(0);
  const Tensor b = as_contiguous(boxes), s = as_contiguous(scores);
  return dispatch_floating(boxes, "boxes", [&](auto type) {
    using T = typename decltype(type)::type;
    const compute_t<T> threshold(iou_threshold);
    SortAndPairs<T> start(data<T>(b), data<T>(s), &values, n, threshold);
    if (start.suppressed.empty())
      start.suppressed = suppressed_by_group(data<T>(b), start.order.get(), *start.groups, threshold);
    return remaining(start.order.get(), start.suppressed);
  });
}

namespace {

// One image of nms_padded. Candidates of all groups are visited in one score order, so that it can stop at max_output.
template <typename T>
int64_t one_image(const T* boxes, const T* scores, const int64_t* groups, int64_t valid, compute_t<T> iou_threshold,
                  compute_t<T> score_threshold, int64_t max_output, int64_t* indices) {
  using C = compute_t<T>;
  const auto items = scratch<Ranked<C>>(2 * valid);
  int64_t n = 0;
  for (int64_t i = 0; i < valid; ++i)
    if (C(scores[i]) > score_threshold) items[n++] = Ranked<C>(C(scores[i]), uint32_t(i));
  const Ranked<C>* sorted = sort_ranked(items.get(), items.get() + valid, n);
  const auto rows = scratch<uint32_t>(n), kept = scratch<uint32_t>(n);
  for (int64_t i = 0; i < n; ++i) rows[i] = sorted[i].index();

  const Candidates<T> candidates{boxes, rows.get(), n};
  int64_t count = 0;
  if (groups == nullptr) {
    count = suppress(candidates, iou_threshold, max_output, kept.get());
  } else {
    const Grouping grouping(groups, rows.get(), n);
    // Groups of one box share bundle 0: what they write there is never read.
    const auto bundles_of = [&](uint32_t size) {
      return size == 1 ? 0 : bundles_for(std::min(int64_t(size), max_output));
    };
    std::vector<int64_t> first_bundle = begins(grouping.sizes, bundles_of);
    for (size_t g = 0; g < grouping.sizes.size(); ++g)
      first_bundle[g] = grouping.sizes[g] == 1 ? 0 : first_bundle[g] + 1;
    const auto bundles = scratch<BoxBundle<C>>(first_bundle.back() + 1);
    std::vector<uint32_t> kept_of(grouping.sizes.size());
    count =
        PYRCNN_KERNEL(greedy_grouped<T>)(candidates, Groups{grouping.of.data(), first_bundle.data(), kept_of.data()},
                                         iou_threshold, max_output, bundles.get(), kept.get());
  }
  for (int64_t i = 0; i < count; ++i) indices[i] = rows[kept[i]];
  std::fill(indices + count, indices + max_output, int64_t{-1});
  return count;
}

}  // namespace

std::tuple<Tensor, Tensor> nms_padded(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                                      int64_t max_output, const std::optional<Tensor>& groups, double score_threshold,
                                      const std::optional<Tensor>& valid) {
  const Padded p = check_nms_padded(boxes, scores, max_output, groups, valid);
  dispatch_floating(boxes, "boxes", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const T *b = data<T>(p.boxes), *s = data<T>(p.scores);
    const int64_t* group_values = groups ? data<int64_t>(p.groups) : nullptr;
    const int64_t* valid_counts = valid ? data<int64_t>(p.valid) : nullptr;
    int64_t *indices = mutable_data<int64_t>(p.indices), *counts = mutable_data<int64_t>(p.counts);
    const double cost = suppression_cost(double(std::min(p.rows, 4 * max_output)));
    parallel(p.images, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t rows = valid_counts ? std::clamp<int64_t>(valid_counts[i], 0, p.rows) : p.rows;
        counts[i] = one_image(b + 4 * i * p.rows, s + i * p.rows, group_values ? group_values + i * p.rows : nullptr,
                              rows, C(iou_threshold), C(score_threshold), max_output, indices + i * max_output);
      }
    });
  });
  return {p.indices, p.counts};
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("nms", PYRCNN_BOX(&nms));
  m.impl("batched_nms", PYRCNN_BOX(&batched_nms));
  m.impl("nms_padded", PYRCNN_BOX(&nms_padded));
}

}  // namespace pyrcnn::nms
