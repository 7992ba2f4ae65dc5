// Decodes, clips and filters scattered boxes a pack at a time. For *_kernel.cpp only.
#pragma once
#include "common/math/clip_and_filter.h"
#include "pack.h"

namespace pyrcnn::PYRCNN_ISA {

// fetch(i) returns the AnchorDelta of box i in [0, count). Writes the boxes that pass clip_and_filter() to `boxes` [*,
// 4] and their numbers i to `ranks`; returns how many.
template <typename C, typename Fetch>
PYRCNN_HD int64_t decode_clip_filter_rows(int64_t count, const Fetch& fetch, C cap, const ClipLimits<C>& limits,
                                          C* boxes, uint32_t* ranks) {
  constexpr int kWide = lanes_of<C>;
  int64_t n = 0;
  for (int64_t i = 0; i < count; i += kWide) {
    const int some = int(count - i < kWide ? count - i : kWide);
    C in[8][kWide];
    for (int lane = 0; lane < kWide; ++lane) {  // the last box fills the last pack up
      const AnchorDelta<C> one = fetch(lower(i + lane, count - 1));
      in[0][lane] = one.anchor.x1, in[1][lane] = one.anchor.y1, in[2][lane] = one.anchor.x2,
      in[3][lane] = one.anchor.y2;
      in[4][lane] = one.delta.x, in[5][lane] = one.delta.y, in[6][lane] = one.delta.w, in[7][lane] = one.delta.h;
    }
    Box<Pack<C>> box = decode(Box<Pack<C>>{load(in[0]), load(in[1]), load(in[2]), load(in[3])},
                              Delta<Pack<C>>{load(in[4]), load(in[5]), load(in[6]), load(in[7])}, broadcast(cap));
    const Mask<C> usable = clip_and_filter(box, limits);
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

}  // namespace pyrcnn::PYRCNN_ISA
