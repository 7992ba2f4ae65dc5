// Numbers the groups 0, 1, ... in place of any int64 values. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <algorithm>
#include <vector>

#include "nms/rule.h"

namespace pyrcnn::nms {

struct Grouping {
  std::vector<uint32_t> of;     // group of item i, numbered by first appearance
  std::vector<uint32_t> sizes;  // items of each group

  // Item i has the value values[rows[i]], or values[i] if rows is null.
  Grouping(const int64_t* values, const uint32_t* rows, int64_t count) : of(count) {
    if (count == 0) return;
    const auto value = [&](int64_t i) { return values[rows == nullptr ? i : int64_t(rows[i])]; };
    int64_t low = value(0), high = low;
    for (int64_t i = 1; i < count; ++i) low = std::min(low, value(i)), high = std::max(high, value(i));
    const uint64_t range = uint64_t(high) - uint64_t(low);
    if (range < 4 * uint64_t(count) + 1024) {
      std::vector<uint32_t> number(range + 1, kNone);
      for (int64_t i = 0; i < count; ++i) add(i, number[uint64_t(value(i)) - uint64_t(low)]);
    } else {
      hash(value, count);
    }
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  void add(int64_t item, uint32_t& number) {
    if (number == kNone) number = uint32_t(sizes.size()), sizes.push_back(0);
    of[item] = number;
    ++sizes[number];
  }

  // Open addressing in a table of at least twice as many slots as items. Fibonacci hashing: 2^64 / golden ratio.
  template <typename F> void hash(const F& value_of, int64_t count) {
    int bits = 1;
    while ((int64_t{1} << bits) < 2 * count) ++bits;
    struct Slot {
      int64_t value;
      uint32_t number;
    };
    std::vector<Slot> slots(size_t{1} << bits, Slot{0, kNone});
    const size_t mask = slots.size() - 1;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t value = value_of(i);
      size_t at = (uint64_t(value) * 0x9e3779b97f4a7c15u) >> (64 - bits);
      while (slots[at].number != kNone && slots[at].value != value) at = (at + 1) & mask;
      slots[at].value = value;
      add(i, slots[at].number);
    }
  }
};

}  // namespace pyrcnn::nms
