// Compiled once per instruction set.
#include "common/simd/decode_rows.h"
#include "generate_proposals.h"

namespace pyrcnn::generate_proposals::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

template <typename T> int64_t at_least(const T* values, int64_t count, compute_t<T> low, uint32_t* found) {
  using C = compute_t<T>;
  constexpr int kWide = 4 * lanes_of<C>;
  const Pack<C> lows = broadcast(low), infinity = broadcast(C(INFINITY));
  const auto hits = [&](const T* at) { return (load(at) >= lows) & (load(at) < infinity); };
  int64_t n = 0, i = 0;
  for (; i + kWide <= count; i += kWide) {
    const T* at = values + i;
    const Mask<C> a = hits(at), b = hits(at + kWide / 4), c = hits(at + kWide / 2), d = hits(at + kWide / 4 * 3);
    if (bits((a | b) | (c | d)) == 0) continue;
    uint64_t word = uint64_t(bits(a)) | uint64_t(bits(b)) << (kWide / 4) | uint64_t(bits(c)) << (kWide / 2) |
                    uint64_t(bits(d)) << (kWide / 4 * 3);
    for (; word != 0; word &= word - 1) found[n++] = uint32_t(i + __builtin_ctzll(word));
  }
  for (; i < count; ++i)
    if (C(values[i]) >= low && C(values[i]) < C(INFINITY)) found[n++] = uint32_t(i);
  return n;
}

template <typename T>
int64_t decode_clip_filter(const Level<T>& level, const Rules<compute_t<T>>& rules, int64_t image,
                           const ClipLimits<compute_t<T>>& limits, const uint32_t* indices, int64_t count,
                           compute_t<T>* boxes, uint32_t* ranks) {
  constexpr int64_t kAhead = 64;  // anchors whose scattered deltas are prefetched before the first is decoded
  AnchorCell<T> cells[kAhead];
  const auto fetch = [&](int64_t i) { return anchor_delta(level, rules, cells[i]); };
  int64_t n = 0;
  for (int64_t first = 0; first < count; first += kAhead) {
    const int64_t some = lower(count - first, kAhead);
    for (int64_t i = 0; i < some; ++i) {
      cells[i] = anchor_cell_of(level, image, indices[first + i]);
      for (int64_t c = 0; c < 4; ++c) __builtin_prefetch(cells[i].deltas + c * level.delta_channel);
    }
    const int64_t end = n + decode_clip_filter_rows(some, fetch, rules.cap, limits, boxes + 4 * n, ranks + n);
    for (; n < end; ++n) ranks[n] += uint32_t(first);
  }
  return n;
}

template <typename C> void sigmoid(C* values, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes_of<C>) store(values + i, C(1) / (C(1) + exp_of(-load(values + i))));
}

#define PYRCNN_INSTANTIATE(T)                                                                                   \
  template int64_t at_least(const T*, int64_t, compute_t<T>, uint32_t*);                                        \
  template int64_t decode_clip_filter(const Level<T>&, const Rules<compute_t<T>>&, int64_t,                     \
                                      const ClipLimits<compute_t<T>>&, const uint32_t*, int64_t, compute_t<T>*, \
                                      uint32_t*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
template void sigmoid(float*, int64_t);
template void sigmoid(double*, int64_t);

}  // namespace pyrcnn::generate_proposals::PYRCNN_ISA
