// Compiled once per instruction set.
#include "../common/box_pack.h"
#include "decode_anchors.h"

namespace pyrcnn::decode_anchors::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;

template <typename C>
PYRCNN_HD Box<Pack<C>> decode_pack(const Box<Pack<C>>& anchor, Box<Pack<C>> d, const Rules<C>& rules, C height,
                                   C width) {
  const Delta<C>& w = rules.weights;
  const bool plain = w.x == C(1) && w.y == C(1) && w.w == C(1) && w.h == C(1);  // then nothing is divided
  const Delta<Pack<C>> delta =
      plain ? Delta<Pack<C>>{d.x1, d.y1, d.x2, d.y2} : Delta<Pack<C>>{d.x1 / w.x, d.y1 / w.y, d.x2 / w.w, d.y2 / w.h};
  return clip(decode(anchor, delta, broadcast(rules.cap)), broadcast(height), broadcast(width));
}

// NCHW: lanes are neighbouring cells of one anchor; their boxes lie per_cell apart.
template <typename T>
PYRCNN_HD int64_t row_of_planes(const Level<T>& l, const Rules<compute_t<T>>& rules, int64_t n, int64_t a, int64_t y) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const C height = rules.height(n), width = rules.width(n), shift_y = (C(y) + rules.offset) * l.stride_y;
  const Numbers& cell = l.cell_anchors;
  const C x1 = cell.at<C>(4 * a), x2 = cell.at<C>(4 * a + 2);
  const Pack<C> y1 = broadcast(cell.at<C>(4 * a + 1) + shift_y), y2 = broadcast(cell.at<C>(4 * a + 3) + shift_y);
  const T* d = l.deltas + n * l.image + 4 * a * l.channel + y * l.row;
  C* to = rules.boxes + 4 * (n * rules.anchors + l.first + y * l.width * l.per_cell + a);
  Pack<C> step;
  for (int i = 0; i < lanes; ++i) step[i] = C(i);
  int64_t x = 0;
  for (; x + lanes <= l.width; x += lanes, d += lanes) {
    const Pack<C> shift_x = (step + C(x) + rules.offset) * l.stride_x;
    const Box<Pack<C>> deltas{load(d), load(d + l.channel), load(d + 2 * l.channel), load(d + 3 * l.channel)};
    Box<Pack<C>> b = decode_pack({x1 + shift_x, y1, x2 + shift_x, y2}, deltas, rules, height, width);
    if constexpr (lanes % 4 == 0) {
      transpose_fours<C>(b.x1, b.y1, b.x2, b.y2);  // now pack k holds the boxes of the lanes k, k + 4, ...
      C boxes[4][lanes];
      store(boxes[0], b.x1), store(boxes[1], b.y1), store(boxes[2], b.x2), store(boxes[3], b.y2);
      for (int i = 0; i < lanes; ++i, to += 4 * l.per_cell) memcpy(to, boxes[i & 3] + (i & ~3), 4 * sizeof(C));
    } else {
      for (int i = 0; i < lanes; ++i, to += 4 * l.per_cell)
        to[0] = b.x1[i], to[1] = b.y1[i], to[2] = b.x2[i], to[3] = b.y2[i];
    }
  }
  return x;
}

// NHWC: the deltas lie as the boxes do; lanes are neighbouring boxes, whose anchors are written out first.
template <typename T>
PYRCNN_HD int64_t row_of_cells(const Level<T>& l, const Rules<compute_t<T>>& rules, int64_t n, int64_t y) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const C height = rules.height(n), width = rules.width(n), shift_y = (C(y) + rules.offset) * l.stride_y;
  const T* d = l.deltas + n * l.image + y * l.row;
  C* to = rules.boxes + 4 * (n * rules.anchors + l.first + y * l.width * l.per_cell);
  const int64_t count = l.width * l.per_cell;
  int64_t i = 0, x = 0, a = 0;
  for (; i + lanes <= count; i += lanes) {
    C anchors[4 * lanes];
    for (int j = 0; j < lanes; ++j) {
      const C shift_x = (C(x) + rules.offset) * l.stride_x;
      const Numbers& cell = l.cell_anchors;
      anchors[4 * j] = cell.at<C>(4 * a) + shift_x, anchors[4 * j + 1] = cell.at<C>(4 * a + 1) + shift_y;
      anchors[4 * j + 2] = cell.at<C>(4 * a + 2) + shift_x, anchors[4 * j + 3] = cell.at<C>(4 * a + 3) + shift_y;
      if (++a == l.per_cell) a = 0, ++x;
    }
    store_boxes<C>(to + 4 * i, decode_pack(load_boxes<C>(anchors), load_boxes<C>(d + 4 * i), rules, height, width));
  }
  return i;
}

// The rows [begin, end) of a level's cells, counted over all images.
template <typename T> void rows(const Level<T>& l, const Rules<compute_t<T>>& rules, int64_t begin, int64_t end) {
  const bool nhwc = l.channel == 1 && l.column == 4 * l.per_cell;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / l.height, y = row % l.height;
    if (nhwc) {
      for (int64_t i = row_of_cells(l, rules, n, y); i < l.width * l.per_cell; ++i)
        decode_one(l, rules, n, i % l.per_cell, y, i / l.per_cell);
    } else {
      for (int64_t a = 0; a < l.per_cell; ++a)
        for (int64_t x = row_of_planes(l, rules, n, a, y); x < l.width; ++x) decode_one(l, rules, n, a, y, x);
    }
  }
}

template void rows(const Level<float>&, const Rules<float>&, int64_t, int64_t);
template void rows(const Level<double>&, const Rules<double>&, int64_t, int64_t);
template void rows(const Level<Half>&, const Rules<float>&, int64_t, int64_t);
template void rows(const Level<BFloat16>&, const Rules<float>&, int64_t, int64_t);

}  // namespace pyrcnn::decode_anchors::PYRCNN_ISA
