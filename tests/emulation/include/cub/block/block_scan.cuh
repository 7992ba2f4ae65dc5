#pragma once
#include <cuda_runtime.h>

namespace cub {
template <typename T, int threads> struct BlockScan {
  struct TempStorage {};
  explicit BlockScan(TempStorage&) {}
  void ExclusiveSum(T x, T& before, T& sum, emulation::Place place = emulation::Place::current()) const {
    const uint64_t* values = emulation::meet(emulation::Group::kBlock, emulation::bits(x), place);
    before = sum = T{};
    for (unsigned i = 0; i < blockDim.x; ++i) {
      if (i == threadIdx.x) before = sum;
      sum += T(values[i]);
    }
  }
};
}  // namespace cub
