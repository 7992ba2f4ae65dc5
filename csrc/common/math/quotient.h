// Division of indices, which a GPU does in 64 bits only by a subroutine.
#pragma once
#include "hd.h"

namespace pyrcnn {

// a / b of numbers that are not negative: most fit into 32 bits.
PYRCNN_HD int64_t quotient(int64_t a, int64_t b) {
#if defined(__CUDA_ARCH__)
  if ((a | b) >> 32 == 0) return int64_t(uint32_t(a) / uint32_t(b));
#endif
  return a / b;
}

}  // namespace pyrcnn
