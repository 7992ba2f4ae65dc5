// decode_anchors: the decoded and clipped boxes of all anchors of a region proposal network. Anchors are never stored.
// This file has the geometry of one anchor, for CPU and CUDA.
#pragma once
#include "common/math/box.h"
#include "common/math/numbers.h"

namespace pyrcnn::decode_anchors {

constexpr int kMaxLevels = 16;

template <typename T> struct Level {
  using C = compute_t<T>;
  const T* deltas;       // [N, 4 * per_cell, height, width]
  Numbers cell_anchors;  // [per_cell, 4]
  int64_t height, width, per_cell;
  int64_t image, channel, row, column;  // strides of deltas
  int64_t first;                        // index of its first box among those of an image
  C stride_y, stride_x;

  PYRCNN_HD int64_t cells() const { return height * width; }
  PYRCNN_HD int64_t anchors() const { return height * width * per_cell; }
};

template <typename C> struct Rules {
  Delta<C> weights;
  C cap, offset;
  Numbers image_sizes;  // [N, 2]
  C* boxes;             // [N, anchors, 4]
  int64_t anchors;

  PYRCNN_HD C height(int64_t n) const { return image_sizes.template at<C>(2 * n); }
  PYRCNN_HD C width(int64_t n) const { return image_sizes.template at<C>(2 * n + 1); }
};

// On the CPU: a level's cell anchors, followed by the first kMore of them again. Boxes that are adjacent in the result
// then have adjacent anchors here, whichever anchor they begin with.
template <typename C> struct Anchors {
  static constexpr int64_t kMore = 16;
  const C* anchors;  // [per_cell + kMore, 4]
  const C* cells;    // [per_cell + kMore, 4]: (x, 0, x, 0) for an anchor x cells to the right
};

// Writes the box of anchor `a` of cell (y, x) in image n.
template <typename T, typename C = compute_t<T>>
PYRCNN_HD void decode_one(const Level<T>& l, const Rules<C>& rules, int64_t n, int64_t a, int64_t y, int64_t x) {
  const C shift_x = (C(x) + rules.offset) * l.stride_x, shift_y = (C(y) + rules.offset) * l.stride_y;
  const Numbers& cell = l.cell_anchors;
  const Box<C> anchor{cell.at<C>(4 * a) + shift_x, cell.at<C>(4 * a + 1) + shift_y, cell.at<C>(4 * a + 2) + shift_x,
                      cell.at<C>(4 * a + 3) + shift_y};
  const T* d = l.deltas + n * l.image + 4 * a * l.channel + y * l.row + x * l.column;
  const Delta<C> delta{C(d[0]) / rules.weights.x, C(d[l.channel]) / rules.weights.y,
                       C(d[2 * l.channel]) / rules.weights.w, C(d[3 * l.channel]) / rules.weights.h};
  const Box<C> box = clip(decode(anchor, delta, rules.cap), rules.height(n), rules.width(n));
  C* to = rules.boxes + 4 * (n * rules.anchors + l.first + (y * l.width + x) * l.per_cell + a);
  to[0] = box.x1, to[1] = box.y1, to[2] = box.x2, to[3] = box.y2;
}

}  // namespace pyrcnn::decode_anchors
