// Division of indices. A GPU divides 64-bit integers by a slow subroutine.
#pragma once
#include "hd.h"

namespace pyrcnn {

// a / b of numbers that are not negative; most of them fit into 32 bits.
PYRCNN_HD int64_t quotient(int64_t a, int64_t b) {
#if defined(__CUDA_ARCH__)
  if ((a | b) >> 32 == 0) return int64_t(uint32_t(a) / uint32_t(b));
#endif
  return a / b;
}

}  // namespace pyrcnn
