// The order of the scores by a radix sort: integers need no comparisons.
#pragma once
#include <cstring>

#include "nms.h"

// Greater scores get lower keys. The bits of positive floats are ordered as the numbers are; negative ones are
// reversed.
inline uint32_t descending_key(float score) {
  uint32_t word;
  score += 0.0f;  // -0 becomes 0
  std::memcpy(&word, &score, sizeof word);
  return ~(word ^ (word >> 31 ? 0xffffffffu : 0x80000000u));
}

// The indices by descending score, equal scores by lower index: three passes of 11 bits over (key, index).
inline std::vector<uint32_t> order_of(const float* scores, int64_t n) {
  constexpr int kBits = 11, kBins = 1 << kBits;
  std::vector<uint64_t> items(n), other(n);
  std::vector<uint32_t> starts(3 * kBins);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t key = descending_key(scores[i]);
    items[i] = uint64_t(key) << 32 | uint32_t(i);
    for (int pass = 0; pass < 3; ++pass) ++starts[pass * kBins + (key >> (pass * kBits) & (kBins - 1))];
  }
  for (int pass = 0; pass < 3; ++pass) {
    uint32_t sum = 0;
    for (int bin = 0; bin < kBins; ++bin) {
      const uint32_t count = starts[pass * kBins + bin];
      starts[pass * kBins + bin] = sum;
      sum += count;
    }
    for (const uint64_t item : items)
      other[starts[pass * kBins + (item >> (32 + pass * kBits) & (kBins - 1))]++] = item;
    items.swap(other);
  }
  std::vector<uint32_t> order(n);
  for (int64_t i = 0; i < n; ++i) order[i] = uint32_t(items[i]);
  return order;
}
