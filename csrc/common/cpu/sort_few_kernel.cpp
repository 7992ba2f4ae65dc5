// Compiled once per instruction set.
#include "sort_few.h"

#include "common/simd/pack.h"

namespace pyrcnn::PYRCNN_ISA {

void sort_few(const uint32_t* keys, int64_t count, uint32_t* order) {
  constexpr int lanes = lanes_of<int32_t>, kPacks = 4;
  int32_t values[kFewKeys + kPacks * lanes] = {}, ranks[kFewKeys + kPacks * lanes];
  for (int64_t i = 0; i < count; ++i) values[i] = int32_t(keys[i] ^ 0x80000000u);  // compared as signed
  for (int64_t i = 0; i < count; i += kPacks * lanes) {
    Pack<int32_t> mine[kPacks], smaller[kPacks] = {};
    for (int p = 0; p < kPacks; ++p) mine[p] = load(values + i + p * lanes);
    for (int64_t j = 0; j < count; ++j)
      for (int p = 0; p < kPacks; ++p) smaller[p] -= broadcast(values[j]) < mine[p];
    for (int p = 0; p < kPacks; ++p) store(ranks + i + p * lanes, smaller[p]);
  }
  uint8_t equals[kFewKeys] = {};
  for (int64_t i = 0; i < count; ++i) order[ranks[i] + equals[ranks[i]]++] = uint32_t(i);
}

}  // namespace pyrcnn::PYRCNN_ISA
