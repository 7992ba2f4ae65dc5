// Compiled once per instruction set.
#include "common/simd/twin.h"
#include "decode_anchors.h"

namespace pyrcnn::decode_anchors::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;

// The constants of an image, in local variables. The compiler must assume that writing boxes changes Rules, and would
// read them again for every pack.
template <typename C> struct Decoder {
  using Two = Twin<Pack<C>>;  // NCHW: the xs and the ys of some boxes. NHWC: two packs of alternating xs and ys
  Change<Two> weights;
  Two cap, limit;
  bool plain;  // all weights are 1, so nothing is divided
  bool modest;
  PYRCNN_HD Decoder(const Rules<C>& rules, const Change<Two>& weights, const Two& limit)
      : weights(weights),
        cap(both(broadcast(rules.cap))),
        limit(limit),
        plain(rules.weights.x == C(1) && rules.weights.y == C(1) && rules.weights.w == C(1) && rules.weights.h == C(1)),
        modest(rules.cap <= kModestCap) {}
  PYRCNN_HD Span<Two> operator()(const Span<Two>& anchor, const Span<Two>& d) const {
    const Change<Two> change =
        plain ? Change<Two>{d.low, d.high} : Change<Two>{d.low / weights.shift, d.high / weights.growth};
    const Span<Two> box = modest ? decode<true>(anchor, change, cap) : decode(anchor, change, cap);
    return {clamp(box.low, Two{}, limit), clamp(box.high, Two{}, limit)};
  }
};

// Stores box i to to[i * next]. Lane i of each pack belongs to box i.
template <typename C> PYRCNN_HD void store_boxes_apart(C* to, int64_t next, Box<Pack<C>> b) {
  constexpr int lanes = lanes_of<C>;
  if constexpr (lanes % 4 == 0) {
    struct Four {
      C corners[4];
    };
    transpose_fours<C>(b.x1, b.y1, b.x2, b.y2);  // now pack k holds the boxes of lanes k, k + 4, ...
    const Pack<C> rows[4] = {b.x1, b.y1, b.x2, b.y2};
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      Four parts[lanes / 4];
      memcpy(parts, &rows[i & 3], sizeof parts);
      memcpy(to + i * next, &parts[i / 4], sizeof(Four));
    }
  } else {
    for (int i = 0; i < lanes; ++i, to += next) to[0] = b.x1[i], to[1] = b.y1[i], to[2] = b.x2[i], to[3] = b.y2[i];
  }
}

// NCHW: lanes are neighbouring cells of one anchor, whose boxes are per_cell apart. Returns how many cells it did.
template <typename T>
PYRCNN_HD int64_t row_of_planes(const Level<T>& l, const Rules<compute_t<T>>& rules, int64_t n, int64_t a, int64_t y) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  using Two = Twin<Pack<C>>;
  const auto pair = [](C x, C y) { return Two{broadcast(x), broadcast(y)}; };
  const Delta<C>& w = rules.weights;
  const Decoder<C> decoder(rules, {pair(w.x, w.y), pair(w.w, w.h)}, pair(rules.width(n), rules.height(n)));
  const C offset = rules.offset, stride_x = l.stride_x, shift_y = (C(y) + offset) * l.stride_y;
  const Numbers& cell = l.cell_anchors;
  const C x1 = cell.at<C>(4 * a), x2 = cell.at<C>(4 * a + 2);
  const Pack<C> y1 = broadcast(cell.at<C>(4 * a + 1) + shift_y), y2 = broadcast(cell.at<C>(4 * a + 3) + shift_y);
  const T* d = l.deltas + n * l.image + 4 * a * l.channel + y * l.row;
  C* to = rules.boxes + 4 * (n * rules.anchors + l.first + y * l.width * l.per_cell + a);
  Pack<C> step;
  for (int i = 0; i < lanes; ++i) step[i] = C(i);
  const int64_t channel = l.channel, next = 4 * l.per_cell;
  int64_t x = 0;
  for (; x + lanes <= l.width; x += lanes, d += lanes, to += lanes * next) {
    const Pack<C> shift_x = (step + C(x) + offset) * stride_x;
    const Span<Two> deltas{{load(d), load(d + channel)}, {load(d + 2 * channel), load(d + 3 * channel)}};
    const Span<Two> box = decoder({{x1 + shift_x, y1}, {x2 + shift_x, y2}}, deltas);
    store_boxes_apart<C>(to, next, {box.low.a, box.low.b, box.high.a, box.high.b});
  }
  return x;
}

// NHWC: deltas and boxes have the same order, and neighbouring boxes are decoded together. Returns how many it did.
template <typename T>
PYRCNN_HD int64_t row_of_cells(const Level<T>& l, const Rules<compute_t<T>>& rules, const Anchors<compute_t<T>>& table,
                               int64_t n, int64_t y) {
  using C = compute_t<T>;
  using Two = Twin<Pack<C>>;
  constexpr int64_t boxes = 2 * boxes_of_span<C>;
  const auto pair = [](C x, C y) { return both(alternate(x, y)); };
  const Delta<C>& w = rules.weights;
  const Decoder<C> decoder(rules, {pair(w.x, w.y), pair(w.w, w.h)}, pair(rules.width(n), rules.height(n)));
  const Two offset = both(broadcast(rules.offset)), stride = pair(l.stride_x, l.stride_y);
  const T* d = l.deltas + n * l.image + y * l.row;
  C* to = rules.boxes + 4 * (n * rules.anchors + l.first + y * l.width * l.per_cell);
  const int64_t count = l.width * l.per_cell, cells = boxes / l.per_cell, rest = boxes % l.per_cell;
  int64_t i = 0, x = 0, a = 0;
  for (; i + boxes <= count; i += boxes) {
    const Span<Two> anchors = load_twin_spans<C>(table.anchors + 4 * a);
    const Two shift = (load_twin_spans<C>(table.cells + 4 * a).low + pair(C(x), C(y)) + offset) * stride;
    store_twin_spans<C>(to + 4 * i,
                        decoder({anchors.low + shift, anchors.high + shift}, load_twin_spans<C>(d + 4 * i)));
    x += cells, a += rest;
    if (a >= l.per_cell) a -= l.per_cell, ++x;
  }
  return i;
}

// Decodes rows [begin, end) of a level's cells, counted over all images.
template <typename T>
void rows(const Level<T>& l, const Rules<compute_t<T>>& rules, const Anchors<compute_t<T>>& table, int64_t begin,
          int64_t end) {
  const bool nhwc = l.channel == 1 && l.column == 4 * l.per_cell;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / l.height, y = row % l.height;
    if (nhwc) {
      for (int64_t i = row_of_cells(l, rules, table, n, y); i < l.width * l.per_cell; ++i)
        decode_one(l, rules, n, i % l.per_cell, y, i / l.per_cell);
    } else {
      for (int64_t a = 0; a < l.per_cell; ++a)
        for (int64_t x = row_of_planes(l, rules, n, a, y); x < l.width; ++x) decode_one(l, rules, n, a, y, x);
    }
  }
}

template void rows(const Level<float>&, const Rules<float>&, const Anchors<float>&, int64_t, int64_t);
template void rows(const Level<double>&, const Rules<double>&, const Anchors<double>&, int64_t, int64_t);
template void rows(const Level<Half>&, const Rules<float>&, const Anchors<float>&, int64_t, int64_t);
template void rows(const Level<BFloat16>&, const Rules<float>&, const Anchors<float>&, int64_t, int64_t);

}  // namespace pyrcnn::decode_anchors::PYRCNN_ISA
