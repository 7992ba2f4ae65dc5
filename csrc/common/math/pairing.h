// Which anchor belongs to which row of a [..., 4] tensor, without copying the anchors: row i belongs to anchor
// (i / repeat) % anchors. Deltas [N, K, 4] with anchors [K, 4] have repeat 1; deltas [P, C, 4] with anchors [P, 1, 4]
// have repeat C.
#pragma once
#include "quotient.h"

namespace pyrcnn {

struct Pairing {
  int64_t rows, anchors, repeat;
  PYRCNN_HD int64_t anchor_of(int64_t row) const {
    const int64_t pair = quotient(row, repeat);
    return pair - quotient(pair, anchors) * anchors;
  }
  PYRCNN_HD int64_t batches() const { return anchors == 0 || repeat == 0 ? 0 : rows / (anchors * repeat); }
  // The row of an anchor in a batch, at one of its repetitions.
  PYRCNN_HD int64_t row_of(int64_t batch, int64_t anchor, int64_t repetition) const {
    return (batch * anchors + anchor) * repeat + repetition;
  }
};

}  // namespace pyrcnn
