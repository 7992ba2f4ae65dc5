// Compiled once per instruction set.
#include "../common/pairing_rows.h"
#include "decode_boxes.h"

namespace pyrcnn::decode_boxes::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;

template <typename K> void rows(const K& k, int64_t begin, int64_t end) {
  using C = typename K::C;
  const Pack<C> cap = broadcast(k.cap), height = broadcast(k.height), width = broadcast(k.width);
  const bool clipped = k.clipped;
  const C w[4] = {k.weights[0], k.weights[1], k.weights[2], k.weights[3]};
  const bool plain = w[0] == C(1) && w[1] == C(1) && w[2] == C(1) && w[3] == C(1);  // then nothing is divided
  paired_rows(k, begin, end, [&](int64_t i, const typename K::Anchor* anchors) {
    const Box<Pack<C>> d = load_boxes<C>(k.deltas + 4 * i);
    const Delta<Pack<C>> delta = plain ? Delta<Pack<C>>{d.x1, d.y1, d.x2, d.y2}
                                       : Delta<Pack<C>>{d.x1 / w[0], d.y1 / w[1], d.x2 / w[2], d.y2 / w[3]};
    Box<Pack<C>> box = decode(load_boxes<C>(anchors), delta, cap);
    if (clipped) box = clip_or_nan(box, height, width);
    store_boxes<C>(k.boxes + 4 * i, box);
  });
}

template void rows(const Kernel<float, float>&, int64_t, int64_t);
template void rows(const Kernel<double, double>&, int64_t, int64_t);
template void rows(const Kernel<Half, Half>&, int64_t, int64_t);
template void rows(const Kernel<Half, float>&, int64_t, int64_t);
template void rows(const Kernel<BFloat16, BFloat16>&, int64_t, int64_t);
template void rows(const Kernel<BFloat16, float>&, int64_t, int64_t);

}  // namespace pyrcnn::decode_boxes::PYRCNN_ISA
