// The loop over rows and their anchors (pairing.h), in packs. For *_kernel.cpp only, as pack.h.
#pragma once
#include "box_pack.h"
#include "common/math/pairing.h"

namespace pyrcnn::PYRCNN_ISA {

// Calls kernel(i) for one row, or pack(i, anchors) for packs * boxes_of_span<C> rows from row i on, whose anchors are
// contiguous at `anchors`.
template <int packs = 1, typename K, typename F>
PYRCNN_HD void paired_rows(const K& kernel, int64_t begin, int64_t end, const F& pack) {
  using TA = typename K::Anchor;
  constexpr int boxes = packs * boxes_of_span<typename K::C>;
  const Pairing p = kernel.pairing;
  int64_t i = begin;
  while (i < end) {
    if (p.repeat == 1) {  // a run of rows with consecutive anchors
      const int64_t anchor = p.anchor_of(i), run = lower(p.anchors - anchor, end - i);
      const TA* anchors = kernel.anchors + 4 * anchor;
      int64_t j = 0;
      for (; j + boxes <= run; j += boxes) pack(i + j, anchors + 4 * j);
      for (; j < run; ++j) kernel(i + j);
      i += run;
    } else if (i + boxes <= end) {
      TA anchors[4 * boxes];
      for (int j = 0; j < boxes; ++j) memcpy(anchors + 4 * j, kernel.anchors + 4 * p.anchor_of(i + j), 4 * sizeof(TA));
      pack(i, anchors);
      i += boxes;
    } else {
      kernel(i++);
    }
  }
}

}  // namespace pyrcnn::PYRCNN_ISA
