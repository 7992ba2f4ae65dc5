// Sorts by descending score in the order of torch.sort(descending=True, stable=True): NaN first, equal scores by lower
// index. Uses std, so it is for *_cpu.cpp, not for *_kernel.cpp.
#pragma once
#include <memory>
#include <utility>

#include "common/math/score_key.h"

namespace pyrcnn {

// The key of a score, and the index of what has that score. C is float or double.
template <typename C> struct Ranked;
template <> struct Ranked<float> {
  static constexpr int key_bits = 32;
  uint64_t word;
  Ranked() = default;
  Ranked(float score, uint32_t index) : word(uint64_t(descending_key(score)) << 32 | index) {}
  uint32_t key() const { return uint32_t(word >> 32); }
  uint32_t index() const { return uint32_t(word); }
};
template <> struct Ranked<double> {
  static constexpr int key_bits = 64;
  uint64_t word;
  uint32_t position;
  Ranked() = default;
  Ranked(double score, uint32_t index) : word(descending_key(score)), position(index) {}
  uint64_t key() const { return word; }
  uint32_t index() const { return position; }
};

// A stable radix sort, least significant digit first. `items` and `scratch` hold n items each; returns the one that
// holds the sorted items.
template <int kBits, typename Item> Item* radix_sort(Item* items, Item* scratch, int64_t n) {
  constexpr int kPasses = (Item::key_bits + kBits - 1) / kBits, kBins = 1 << kBits;
  uint32_t starts[kPasses][kBins] = {};
  for (int64_t i = 0; i < n; ++i) {
    auto key = items[i].key();
    for (int pass = 0; pass < kPasses; ++pass, key >>= kBits) ++starts[pass][key & (kBins - 1)];
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    const int shift = pass * kBits;
    if (starts[pass][(items[0].key() >> shift) & (kBins - 1)] == uint32_t(n)) continue;  // all have the same digit
    uint32_t sum = 0;
    for (uint32_t& start : starts[pass]) sum += std::exchange(start, sum);
    for (int64_t i = 0; i < n; ++i) scratch[starts[pass][(items[i].key() >> shift) & (kBins - 1)]++] = items[i];
    std::swap(items, scratch);
  }
  return items;
}

// The same result in two passes. They sort by 2 * kBits bits of the differences from the smallest key, the highest
// that are in use. An insertion sort then moves the few items that are still out of order. If that takes more than n
// moves, radix_sort() finishes.
template <int kBits, typename Item> Item* coarse_sort(Item* items, Item* scratch, int64_t n) {
  constexpr int kBins = 1 << kBits;
  auto low = items[0].key(), high = low;
  for (int64_t i = 1; i < n; ++i) low = lower(low, items[i].key()), high = higher(high, items[i].key());
  int dropped = 0;
  while ((high - low) >> dropped >> (2 * kBits) != 0) ++dropped;
  uint32_t starts[2][kBins] = {};
  for (int64_t i = 0; i < n; ++i) {
    const auto key = (items[i].key() - low) >> dropped;
    ++starts[0][key & (kBins - 1)], ++starts[1][key >> kBits];
  }
  for (int pass = 0; pass < 2; ++pass) {
    const int shift = dropped + pass * kBits;
    uint32_t sum = 0;
    for (uint32_t& start : starts[pass]) sum += std::exchange(start, sum);
    for (int64_t i = 0; i < n; ++i) scratch[starts[pass][((items[i].key() - low) >> shift) & (kBins - 1)]++] = items[i];
    std::swap(items, scratch);
  }
  int64_t moves = n;
  for (int64_t i = 1; i < n; ++i) {
    if (items[i - 1].key() <= items[i].key()) continue;
    const Item item = items[i];
    int64_t at = i;
    for (; at > 0 && items[at - 1].key() > item.key() && moves > 0; --at, --moves) items[at] = items[at - 1];
    items[at] = item;
    if (moves == 0) return radix_sort<kBits>(items, scratch, n);
  }
  return items;
}

// Sorts stably by key, by the method that is fastest for n; returns `items` or `scratch`, whichever holds the result.
template <typename C> Ranked<C>* sort_ranked(Ranked<C>* items, Ranked<C>* scratch, int64_t n) {
  if (n < 2) return items;
  if (n <= 16) {  // insertion sort
    for (int64_t i = 1; i < n; ++i) {
      const Ranked<C> item = items[i];
      int64_t at = i;
      for (; at > 0 && items[at - 1].key() > item.key(); --at) items[at] = items[at - 1];
      items[at] = item;
    }
    return items;
  }
  if (n <= 4096) return coarse_sort<9>(items, scratch, n);
  return n <= 65536 ? coarse_sort<11>(items, scratch, n) : radix_sort<11>(items, scratch, n);
}

// Sets order[0..n) to the indices of `scores` by descending score; n < 2^32.
template <typename T> void sort_descending(const T* scores, int64_t n, uint32_t* order) {
  using Item = Ranked<compute_t<T>>;
  const std::unique_ptr<Item[]> items(new Item[2 * n]);
  for (int64_t i = 0; i < n; ++i) items[i] = Item(compute_t<T>(scores[i]), uint32_t(i));
  const Item* sorted = sort_ranked(items.get(), items.get() + n, n);
  for (int64_t i = 0; i < n; ++i) order[i] = sorted[i].index();
}

}  // namespace pyrcnn
