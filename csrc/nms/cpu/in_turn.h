// Compares one candidate with kept boxes: what in_turn_kernel.cpp and indexed_kernel.cpp share. For *_kernel.cpp only.
// A candidate is compared with kept boxes only when its turn comes. So candidates after the stop at max_output are
// never read, and only kept boxes are copied.
#pragma once
#include "common/simd/pack.h"
#include "nms/rule.h"

namespace pyrcnn::nms::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

template <typename C> PYRCNN_HD Box<Pack<C>> kept_boxes(const BoxBundle<C>& bundle, int at) {
  return {load(bundle.x1 + at), load(bundle.y1 + at), load(bundle.x2 + at), load(bundle.y2 + at)};
}

constexpr int64_t kAhead = 8;  // candidates

// The row of candidate i; prefetches that of candidate i + kAhead.
template <typename T> PYRCNN_HD const T* row_of(const Candidates<T>& candidates, int64_t i) {
  const uint32_t* rows = candidates.rows;
  if (rows == nullptr) return candidates.boxes + 4 * i;
  if (i + kAhead < candidates.count) __builtin_prefetch(candidates.boxes + 4 * int64_t(rows[i + kAhead]));
  return candidates.boxes + 4 * int64_t(rows[i]);
}

// One candidate, its numbers broadcast to packs.
template <typename C> struct PackedCandidate {
  Box<C> box;
  C area, bound, threshold;
  Box<Pack<C>> boxes;
  Pack<C> bounds;

  PYRCNN_HD PackedCandidate(const Box<C>& box, C area, C bound, C threshold)
      : box(box),
        area(area),
        bound(bound),
        threshold(threshold),
        boxes{broadcast(box.x1), broadcast(box.y1), broadcast(box.x2), broadcast(box.y2)},
        bounds(broadcast(bound)) {}

  PYRCNN_HD bool suppressed_by(const BoxBundle<C>& bundle) const {
    Mask<C> any{};
    for (int at = 0; at < kBundle; at += lanes_of<C>) {
      const Box<Pack<C>> kept = kept_boxes(bundle, at);
      any |= suppresses(kept, boxes, pyrcnn::area(kept), broadcast(area), broadcast(threshold));
    }
    return bits(any) != 0;
  }
  // Does a box of one of the `bundles` bundles from `first` on suppress the candidate? Few boxes pass the screen, and
  // most of these suppress, so they are tried one by one.
  template <int bundles> PYRCNN_HD bool screened_by(const BoxBundle<C>* first) const {
    constexpr int kPacks = kBundle / lanes_of<C>;
    Mask<C> passes[bundles * kPacks], any{};
    for (int i = 0; i < bundles * kPacks; ++i) {
      const BoxBundle<C>& bundle = first[i / kPacks];
      const int at = i % kPacks * lanes_of<C>;
      passes[i] = Screen<C>::overlap(kept_boxes(bundle, at), boxes) > load(bundle.bound + at) + bounds;
      any |= passes[i];
    }
    if (bits(any) == 0) return false;
    uint32_t word = 0;
    for (int i = 0; i < bundles * kPacks; ++i) word |= bits(passes[i]) << (i * lanes_of<C>);
    for (; word != 0; word &= word - 1) {
      const BoxBundle<C>& bundle = first[__builtin_ctz(word) / kBundle];
      const int at = __builtin_ctz(word) % kBundle;
      const Box<C> kept{bundle.x1[at], bundle.y1[at], bundle.x2[at], bundle.y2[at]};
      if (suppresses(kept, box, pyrcnn::area(kept), area, threshold)) return true;
    }
    return false;
  }
};

// Does a box of bundles [0, count) suppress the candidate? kScreen: the threshold is one that Screen can use.
template <bool kScreen, typename C>
PYRCNN_HD bool suppressed(const PackedCandidate<C>& candidate, const BoxBundle<C>* bundles, int64_t count) {
  int64_t t = 0;
  if (kScreen) {
    for (; t + 2 <= count; t += 2)
      if (candidate.template screened_by<2>(bundles + t)) return true;
    return t < count && candidate.template screened_by<1>(bundles + t);
  }
  for (; t < count; ++t)
    if (candidate.suppressed_by(bundles[t])) return true;
  return false;
}

// Stores a kept box behind the `count` before it. Empty slots of a bundle are NaN, which passes no test.
template <typename C> PYRCNN_HD void keep(BoxBundle<C>* bundles, int64_t count, const Box<C>& box, C bound) {
  const int slot = int(count % kBundle);
  BoxBundle<C>& bundle = bundles[count / kBundle];
  if (slot == 0)
    for (int at = 0; at < 5 * kBundle; at += lanes_of<C>) store(bundle.x1 + at, broadcast(C(NAN)));
  bundle.x1[slot] = box.x1, bundle.y1[slot] = box.y1, bundle.x2[slot] = box.x2, bundle.y2[slot] = box.y2;
  bundle.bound[slot] = bound;
}

}  // namespace pyrcnn::nms::PYRCNN_ISA
