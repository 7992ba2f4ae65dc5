// Compiled once per instruction set.
#include "../common/pack.h"
#include "preprocess.h"

namespace pyrcnn::preprocess::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

template <typename S> void stretch(const S* row, int64_t step, const Tap* taps, int64_t count, float* to) {
  for (int64_t x = 0; x < count; ++x)
    to[x] = blend(float(row[taps[x].low * step]), float(row[taps[x].high * step]), taps[x].weight);
}

template <typename T>
void finish(const float* top, const float* bottom, float weight, const Channel& channel, T* to, int64_t step,
            int64_t count) {
  using C = compute_t<T>;
  int64_t x = 0;
  if constexpr (sizeof(C) == 4) {
    const Pack<float> down = broadcast(weight);
    if (step == 1)
      for (; x + kLanes <= count; x += kLanes) store(to + x, channel(blend(load(top + x), load(bottom + x), down)));
  }
  for (; x < count; ++x) to[x * step] = T(channel(blend(top[x], bottom[x], weight)));
}

template void stretch(const uint8_t*, int64_t, const Tap*, int64_t, float*);
template void stretch(const float*, int64_t, const Tap*, int64_t, float*);
template void stretch(const double*, int64_t, const Tap*, int64_t, float*);
template void stretch(const Half*, int64_t, const Tap*, int64_t, float*);
template void stretch(const BFloat16*, int64_t, const Tap*, int64_t, float*);
template void finish(const float*, const float*, float, const Channel&, float*, int64_t, int64_t);
template void finish(const float*, const float*, float, const Channel&, double*, int64_t, int64_t);
template void finish(const float*, const float*, float, const Channel&, Half*, int64_t, int64_t);
template void finish(const float*, const float*, float, const Channel&, BFloat16*, int64_t, int64_t);

}  // namespace pyrcnn::preprocess::PYRCNN_ISA
