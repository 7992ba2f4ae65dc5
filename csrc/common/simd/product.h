// The inner loop of a matrix product: a few rows of the left matrix times a panel of the right one, with all sums in
// registers. For *_kernel.cpp only.
#pragma once
#include "pack.h"

// Sums stay in registers only if all loops over them are unrolled.
#define PYRCNN_UNROLLED _Pragma("GCC unroll 16")

namespace pyrcnn::PYRCNN_ISA {

constexpr int kSums = 12;  // packs of sums: enough to hide the latency of an fma, and few enough for 16 registers

// Adds left [Rows, depth], whose rows are `pitch` apart, times the first `Packs` packs of right [depth][Panel]. Ahead:
// prefetches what follows `right` in memory, because it is multiplied next.
template <int Panel, bool Ahead = false, int Rows, int Packs>
PYRCNN_HD void multiply_add(Pack<float> (&sum)[Rows][Packs], const float* left, int64_t pitch, int64_t depth,
                            const float* right) {
  const int64_t ahead = depth * Panel;
  for (const float* end = left + depth; left < end; ++left, right += Panel) {
    if constexpr (Ahead) __builtin_prefetch(right + ahead);
    Pack<float> column[Packs];
    for (int p = 0; p < Packs; ++p) column[p] = load(right + p * kLanes);
    for (int r = 0; r < Rows; ++r) {
      const Pack<float> value = broadcast(left[r * pitch]);
      for (int p = 0; p < Packs; ++p) sum[r][p] = fma(value, column[p], sum[r][p]);
    }
  }
}

}  // namespace pyrcnn::PYRCNN_ISA
