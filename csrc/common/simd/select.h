// Selects the best k of many items without sorting the others. Uses std, so it is for *_cpu.cpp, not for *_kernel.cpp.
#pragma once
#include <algorithm>

#include "sort.h"

namespace pyrcnn {

// Does `a` come before `b`? By descending score, equal scores by lower index: a total order.
template <typename C> bool before(const Ranked<C>& a, const Ranked<C>& b) {
  if constexpr (sizeof(C) == 4) {
    return a.word < b.word;
  } else {
    return a.key() != b.key() ? a.key() < b.key() : a.index() < b.index();
  }
}

// Moves the best k items of [begin, end) to the front, in no order.
template <typename C> void partition_best(Ranked<C>* begin, Ranked<C>* end, int64_t k) {
  if (k > 0 && k < end - begin) std::nth_element(begin, begin + (k - 1), end, before<C>);
}

// Sorts `n` items in any order by before(); returns `items` or `scratch`, whichever holds the result.
template <typename C> Ranked<C>* sort_unordered(Ranked<C>* items, Ranked<C>* scratch, int64_t n) {
  if (n <= 64) {
    std::sort(items, items + n, before<C>);
    return items;
  }
  Ranked<C>* sorted = sort_ranked(items, scratch, n);
  for (int64_t i = 0, next; i < n; i = next) {  // the radix sort compares keys only: order equal keys by index
    for (next = i + 1; next < n && sorted[next].key() == sorted[i].key();) ++next;
    if (next - i > 1) std::sort(sorted + i, sorted + next, before<C>);
  }
  return sorted;
}

}  // namespace pyrcnn
