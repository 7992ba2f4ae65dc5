// decode_anchors: every anchor of every level of a region proposal network, decoded and clipped, without an anchor ever
// being stored. The geometry of one anchor, shared by CPU and CUDA.
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
  int64_t first;                        // where its boxes begin in an image's
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

// On the CPU: a level's cell anchors, and after the last one the first ones again, as many as are decoded together.
// Boxes in a row of memory, from any anchor on, so are a row of this, too.
template <typename C> struct Anchors {
  static constexpr int64_t kMore = 16;
  const C* anchors;  // [per_cell + kMore, 4]
  const C* cells;    // [per_cell + kMore, 4]: (x, 0, x, 0), how many cells further right
};

// The box of anchor `a` of the cell (y, x) in image n.
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
