// Compiled once per instruction set.
#include "common/simd/pairing_rows.h"
#include "common/simd/twin.h"
#include "decode_boxes.h"

namespace pyrcnn::decode_boxes::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;

namespace {

template <bool kModest, typename K> PYRCNN_HD void decode_rows(const K& k, int64_t begin, int64_t end) {
  using C = typename K::C;
  const auto deltas = k.deltas;
  const auto boxes = k.boxes;
  using Two = Twin<Pack<C>>;
  const Two cap = both(broadcast(k.cap)), limit = both(alternate(k.width, k.height));
  const Change<Two> weights{both(alternate(k.weights[0], k.weights[1])), both(alternate(k.weights[2], k.weights[3]))};
  const bool clipped = k.clipped;
  bool plain = true;  // all weights are 1, so nothing is divided
  for (const C weight : k.weights) plain = plain && weight == C(1);
  paired_rows<2>(k, begin, end, [&](int64_t i, const typename K::Anchor* anchors) {
    const Span<Two> d = load_twin_spans<C>(deltas + 4 * i);
    const Change<Two> change =
        plain ? Change<Two>{d.low, d.high} : Change<Two>{d.low / weights.shift, d.high / weights.growth};
    Span<Two> box = decode<kModest>(load_twin_spans<C>(anchors), change, cap);
    if (clipped) box = clip_or_nan(box, limit);
    store_twin_spans<C>(boxes + 4 * i, box);
  });
}

}  // namespace

template <typename K> void rows(const K& k, int64_t begin, int64_t end) {
  if (k.cap <= kModestCap) decode_rows<true>(k, begin, end);
  else decode_rows<false>(k, begin, end);
}

template void rows(const Kernel<float, float>&, int64_t, int64_t);
template void rows(const Kernel<double, double>&, int64_t, int64_t);
template void rows(const Kernel<Half, Half>&, int64_t, int64_t);
template void rows(const Kernel<Half, float>&, int64_t, int64_t);
template void rows(const Kernel<BFloat16, BFloat16>&, int64_t, int64_t);
template void rows(const Kernel<BFloat16, float>&, int64_t, int64_t);

}  // namespace pyrcnn::decode_boxes::PYRCNN_ISA
