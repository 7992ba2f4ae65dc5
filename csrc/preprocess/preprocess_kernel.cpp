// Compiled once per instruction set.
#include "common/simd/pack.h"
#include "preprocess.h"

namespace pyrcnn::preprocess::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

template <typename S> void stretch(const S* row, int64_t step, const Columns& columns, float* to) {
  int64_t x = 0;
  if constexpr (sizeof(S) == 1) {  // one load gets both bytes of a column, and two that are not needed
    if (step == 1)
      for (; x + kLanes <= columns.paired; x += kLanes) {
        Mask<float> words{};
        for (int lane = 0; lane < kLanes; ++lane) {
          int32_t word;
          memcpy(&word, row + columns.low[x + lane], sizeof word);
          words[lane] = word;
        }
        const Pack<float> low = __builtin_convertvector(words & 0xff, Pack<float>);
        const Pack<float> high = __builtin_convertvector(words >> 8 & 0xff, Pack<float>);
        store(to + x, blend(low, high, load(columns.weights + x)));
      }
  }
  for (; x < columns.count; ++x) {
    const Tap& t = columns.taps[x];
    to[x] = blend(float(row[t.low * step]), float(row[t.high * step]), t.weight);
  }
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

template void stretch(const uint8_t*, int64_t, const Columns&, float*);
template void stretch(const float*, int64_t, const Columns&, float*);
template void stretch(const double*, int64_t, const Columns&, float*);
template void stretch(const Half*, int64_t, const Columns&, float*);
template void stretch(const BFloat16*, int64_t, const Columns&, float*);
template void finish(const float*, const float*, float, const Channel&, float*, int64_t, int64_t);
template void finish(const float*, const float*, float, const Channel&, double*, int64_t, int64_t);
template void finish(const float*, const float*, float, const Channel&, Half*, int64_t, int64_t);
template void finish(const float*, const float*, float, const Channel&, BFloat16*, int64_t, int64_t);

}  // namespace pyrcnn::preprocess::PYRCNN_ISA
