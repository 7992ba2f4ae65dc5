// generate_proposals: the output of one level of the region proposal network, and the decoding of one of its anchors
// (Ren et al. 2015, section 3.1). Anchors are computed where they are needed and never stored.
#pragma once
#include "common/math/clip_and_filter.h"
#include "common/math/numbers.h"

namespace pyrcnn::generate_proposals {

// The anchors of a level are numbered in torchvision's order, [height, width, per_cell]; equal scores go by this index.
template <typename T> struct Level {
  using C = compute_t<T>;
  const T* objectness;
  const T* deltas;
  Numbers cell_anchors;  // [per_cell, 4]
  int64_t height, width, per_cell;
  int64_t objectness_image;                                     // elements from one image to the next
  int64_t delta_image, delta_channel, delta_row, delta_column;  // strides
  C stride_y, stride_x;
  bool interleaved;  // objectness is [height, width, per_cell] in memory (NHWC), else [per_cell, height, width]

  PYRCNN_HD int64_t cells() const { return height * width; }
  PYRCNN_HD int64_t anchors() const { return height * width * per_cell; }
  // The position of an anchor's objectness in the memory of its image, and the reverse.
  PYRCNN_HD int64_t position(int64_t index) const {
    return interleaved ? index : index % per_cell * cells() + index / per_cell;
  }
  PYRCNN_HD int64_t index(int64_t position) const {
    return interleaved ? position : position % cells() * per_cell + position / cells();
  }
};

template <typename C> struct Rules {
  C weights[4];
  C cap;
  C offset;
};

// The cell of an anchor, which anchor of the cell it is, and the address of its deltas.
template <typename T> struct AnchorCell {
  uint32_t x, y, kind;
  const T* deltas;
};
template <typename T> PYRCNN_HD AnchorCell<T> anchor_cell_of(const Level<T>& level, int64_t image, uint32_t index) {
  const uint32_t per_cell = uint32_t(level.per_cell), width = uint32_t(level.width);
  const uint32_t cell = index / per_cell, kind = index % per_cell, y = cell / width, x = cell % width;
  return {x, y, kind,
          level.deltas + image * level.delta_image + 4 * int64_t(kind) * level.delta_channel +
              int64_t(y) * level.delta_row + int64_t(x) * level.delta_column};
}

template <typename T, typename C = compute_t<T>>
PYRCNN_HD AnchorDelta<C> anchor_delta(const Level<T>& level, const Rules<C>& rules, const AnchorCell<T>& at) {
  const C shift_x = (C(at.x) + rules.offset) * level.stride_x, shift_y = (C(at.y) + rules.offset) * level.stride_y;
  const int64_t next = level.delta_channel, cell = 4 * int64_t(at.kind);
  const T* d = at.deltas;
  return {
      {shift_x + level.cell_anchors.template at<C>(cell), shift_y + level.cell_anchors.template at<C>(cell + 1),
       shift_x + level.cell_anchors.template at<C>(cell + 2), shift_y + level.cell_anchors.template at<C>(cell + 3)},
      {C(d[0]) / rules.weights[0], C(d[next]) / rules.weights[1], C(d[2 * next]) / rules.weights[2],
       C(d[3 * next]) / rules.weights[3]}};
}
template <typename T, typename C = compute_t<T>>
PYRCNN_HD AnchorDelta<C> anchor_delta(const Level<T>& level, const Rules<C>& rules, int64_t image, uint32_t index) {
  return anchor_delta(level, rules, anchor_cell_of(level, image, index));
}

}  // namespace pyrcnn::generate_proposals
