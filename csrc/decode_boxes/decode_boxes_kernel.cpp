// Compiled once per instruction set.
#include "decode_boxes.h"

namespace pyrcnn::decode_boxes::PYRCNN_ISA {

template <typename T> void rows(const Kernel<T>& kernel, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) kernel(i);
}

template void rows(const Kernel<float>&, int64_t, int64_t);
template void rows(const Kernel<double>&, int64_t, int64_t);
template void rows(const Kernel<Half>&, int64_t, int64_t);
template void rows(const Kernel<BFloat16>&, int64_t, int64_t);

}  // namespace pyrcnn::decode_boxes::PYRCNN_ISA
