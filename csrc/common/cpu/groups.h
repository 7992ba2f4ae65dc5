// Items grouped by a number. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace pyrcnn {

// Only groups that have items exist, in ascending order of their numbers, so memory depends on the items alone: there
// may be many more images than RoIs. The items of group g are order[start[g]] .. order[start[g + 1]].
struct Groups {
  std::vector<int64_t> number, start, order;

  Groups() = default;
  // Item i belongs to group number[i] of `numbers`. before(a, b) orders the items of a group.
  template <typename Before> Groups(const std::vector<int64_t>& numbers, const Before& before) : order(numbers.size()) {
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto sorted = [&](int64_t a, int64_t b) {
      return numbers[a] != numbers[b] ? numbers[a] < numbers[b] : before(a, b);
    };
    if (!std::is_sorted(order.begin(), order.end(), sorted)) std::sort(order.begin(), order.end(), sorted);
    for (size_t i = 0; i < order.size(); ++i)
      if (i == 0 || numbers[order[i]] != number.back())
        number.push_back(numbers[order[i]]), start.push_back(int64_t(i));
    start.push_back(int64_t(order.size()));
  }

  int64_t size() const { return int64_t(number.size()); }

  struct Range {
    int64_t begin, end;
  };
  // Where the items of the group `wanted` are in `order`.
  Range find(int64_t wanted) const {
    const int64_t g = std::lower_bound(number.begin(), number.end(), wanted) - number.begin();
    return g < size() && number[g] == wanted ? Range{start[g], start[g + 1]} : Range{0, 0};
  }
};

}  // namespace pyrcnn
