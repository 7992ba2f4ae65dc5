// Compiled once per instruction set.
#include "common/simd/pairing_rows.h"
#include "encode_boxes.h"

namespace pyrcnn::encode_boxes::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;

template <typename K> void rows(const K& k, int64_t begin, int64_t end) {
  using C = typename K::C;
  const Change<Pack<C>> weights{alternate(k.weights.x, k.weights.y), alternate(k.weights.w, k.weights.h)};
  paired_rows(k, begin, end, [&](int64_t i, const typename K::Anchor* anchors) {
    const Change<Pack<C>> d = encode(load_spans<C>(k.boxes + 4 * i), load_spans<C>(anchors), weights);
    store_spans<C>(k.deltas + 4 * i, Span<Pack<C>>{d.shift, d.growth});
  });
}

template void rows(const Kernel<float, float>&, int64_t, int64_t);
template void rows(const Kernel<double, double>&, int64_t, int64_t);
template void rows(const Kernel<Half, Half>&, int64_t, int64_t);
template void rows(const Kernel<Half, float>&, int64_t, int64_t);
template void rows(const Kernel<BFloat16, BFloat16>&, int64_t, int64_t);
template void rows(const Kernel<BFloat16, float>&, int64_t, int64_t);

}  // namespace pyrcnn::encode_boxes::PYRCNN_ISA
