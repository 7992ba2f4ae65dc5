// The best k of many, without sorting the rest. Uses std, so it is for *_cpu.cpp, not for *_kernel.cpp.
#pragma once
#include <algorithm>

#include "sort.h"

namespace pyrcnn {

// Descending score, ties by lower index: a total order.
template <typename C> bool before(const Ranked<C>& a, const Ranked<C>& b) {
  if constexpr (sizeof(C) == 4) {
    return a.word < b.word;
  } else {
    return a.key() != b.key() ? a.key() < b.key() : a.index() < b.index();
  }
}

// Puts the best k of items[begin, end) first, in no order.
template <typename C> void partition_best(Ranked<C>* begin, Ranked<C>* end, int64_t k) {
  if (k > 0 && k < end - begin) std::nth_element(begin, begin + (k - 1), end, before<C>);
}

// Sorts `n` items that are in any order; returns where they are, `items` or `scratch`.
template <typename C> Ranked<C>* sort_unordered(Ranked<C>* items, Ranked<C>* scratch, int64_t n) {
  if (n <= 64) {
    std::sort(items, items + n, before<C>);
    return items;
  }
  Ranked<C>* sorted = sort_ranked(items, scratch, n);
  for (int64_t i = 0, next; i < n; i = next) {  // the radix sort looks at keys only: put ties in order
    for (next = i + 1; next < n && sorted[next].key() == sorted[i].key();) ++next;
    if (next - i > 1) std::sort(sorted + i, sorted + next, before<C>);
  }
  return sorted;
}

}  // namespace pyrcnn
