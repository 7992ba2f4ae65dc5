// Compiled once per instruction set.
#include "../common/fit.h"
#include "../common/pack.h"
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

// Anchors are gathered one by one and decoded a pack at a time.
template <typename T>
int64_t decode_clip_filter(const Level<T>& level, const Rules<compute_t<T>>& rules, int64_t image, compute_t<T> height,
                           compute_t<T> width, const uint32_t* indices, int64_t count, compute_t<T>* boxes,
                           uint32_t* ranks) {
  using C = compute_t<T>;
  constexpr int kWide = lanes_of<C>;
  int64_t n = 0;
  for (int64_t i = 0; i < count; i += kWide) {
    const int some = int(count - i < kWide ? count - i : kWide);
    C in[8][kWide] = {};
    for (int lane = 0; lane < some; ++lane) {
      const AnchorDelta<C> one = anchor_delta(level, rules, image, indices[i + lane]);
      in[0][lane] = one.anchor.x1, in[1][lane] = one.anchor.y1, in[2][lane] = one.anchor.x2,
      in[3][lane] = one.anchor.y2;
      in[4][lane] = one.delta.x, in[5][lane] = one.delta.y, in[6][lane] = one.delta.w, in[7][lane] = one.delta.h;
    }
    const Box<Pack<C>> anchor{load(in[0]), load(in[1]), load(in[2]), load(in[3])};
    Box<Pack<C>> box =
        decode(anchor, Delta<Pack<C>>{load(in[4]), load(in[5]), load(in[6]), load(in[7])}, broadcast(rules.cap));
    const Mask<C> usable = fit(box, broadcast(height), broadcast(width), broadcast(rules.min_size));
    C out[4][kWide];
    store(out[0], box.x1), store(out[1], box.y1), store(out[2], box.x2), store(out[3], box.y2);
    for (uint32_t word = bits(usable) & ((1u << some) - 1); word != 0; word &= word - 1, ++n) {
      const int lane = __builtin_ctz(word);
      for (int side = 0; side < 4; ++side) boxes[4 * n + side] = out[side][lane];
      ranks[n] = uint32_t(i + lane);
    }
  }
  return n;
}

template <typename C> void sigmoid(C* values, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes_of<C>) store(values + i, C(1) / (C(1) + exp_of(-load(values + i))));
}

#define PYRCNN_INSTANTIATE(T)                                                                             \
  template int64_t at_least(const T*, int64_t, compute_t<T>, uint32_t*);                                  \
  template int64_t decode_clip_filter(const Level<T>&, const Rules<compute_t<T>>&, int64_t, compute_t<T>, \
                                      compute_t<T>, const uint32_t*, int64_t, compute_t<T>*, uint32_t*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
template void sigmoid(float*, int64_t);
template void sigmoid(double*, int64_t);

}  // namespace pyrcnn::generate_proposals::PYRCNN_ISA
