// Loads boxes [.., 4] as four packs, one per coordinate, or as two packs of low and of high corners, and stores them.
// For
// *_kernel.cpp only, as pack.h.
//
// Loading transposes 4 x 4 numbers in each group of four lanes and no more, so the lanes are not in the order of the
// boxes. store_boxes() undoes this, and box_order() brings one pack of results into the order of the boxes.
#pragma once
#include <utility>

#include "common/math/box.h"
#include "pack.h"

namespace pyrcnn::PYRCNN_ISA {

// In every group of four lanes, the lanes K of (a, b); 4 to 7 are those of b.
template <int... K, typename P, int... I> PYRCNN_HD P shuffle_fours(P a, P b, std::integer_sequence<int, I...>) {
  constexpr int from[] = {K...};
  constexpr int lanes = sizeof...(I);
  return __builtin_shufflevector(a, b, ((I & ~3) + from[I & 3] % 4 + (from[I & 3] < 4 ? 0 : lanes))...);
}

template <typename C> PYRCNN_HD void transpose_fours(Pack<C>& a, Pack<C>& b, Pack<C>& c, Pack<C>& d) {
  constexpr std::make_integer_sequence<int, lanes_of<C>> all{};
  const Pack<C> ab = shuffle_fours<0, 4, 1, 5>(a, b, all), ab_high = shuffle_fours<2, 6, 3, 7>(a, b, all);
  const Pack<C> cd = shuffle_fours<0, 4, 1, 5>(c, d, all), cd_high = shuffle_fours<2, 6, 3, 7>(c, d, all);
  a = shuffle_fours<0, 1, 4, 5>(ab, cd, all), b = shuffle_fours<2, 3, 6, 7>(ab, cd, all);
  c = shuffle_fours<0, 1, 4, 5>(ab_high, cd_high, all), d = shuffle_fours<2, 3, 6, 7>(ab_high, cd_high, all);
}

// lanes_of<C> boxes.
template <typename C, typename T> PYRCNN_HD Box<Pack<C>> load_boxes(const T* from) {
  constexpr int lanes = lanes_of<C>;
  Box<Pack<C>> b;
  if constexpr (lanes % 4 == 0) {
    b = {load(from), load(from + lanes), load(from + 2 * lanes), load(from + 3 * lanes)};
    transpose_fours<C>(b.x1, b.y1, b.x2, b.y2);
  } else {
    for (int i = 0; i < lanes; ++i, from += 4) {
      b.x1[i] = C(from[0]), b.y1[i] = C(from[1]), b.x2[i] = C(from[2]), b.y2[i] = C(from[3]);
    }
  }
  return b;
}

template <typename C, typename T> PYRCNN_HD void store_boxes(T* to, Box<Pack<C>> b) {
  constexpr int lanes = lanes_of<C>;
  if constexpr (lanes % 4 == 0) {
    transpose_fours<C>(b.x1, b.y1, b.x2, b.y2);
    store(to, b.x1), store(to + lanes, b.y1), store(to + 2 * lanes, b.x2), store(to + 3 * lanes, b.y2);
  } else {
    for (int i = 0; i < lanes; ++i, to += 4)
      to[0] = T(b.x1[i]), to[1] = T(b.y1[i]), to[2] = T(b.x2[i]), to[3] = T(b.y2[i]);
  }
}

template <typename P, int... I> PYRCNN_HD P box_order_of(P pack, std::integer_sequence<int, I...>) {
  constexpr int groups = int(sizeof...(I)) / 4;
  return __builtin_shufflevector(pack, pack, (4 * (I % groups) + I / groups)...);
}
// Brings one value per box, computed from the packs of load_boxes<C>, into the order of the boxes in memory.
template <typename C, typename P> PYRCNN_HD P box_order(P pack) {
  if constexpr (lanes_of<C> % 4 == 0 && lanes_of<C> > 4) {
    return box_order_of(pack, std::make_integer_sequence<int, lanes_of<C>>{});
  } else {
    return pack;
  }
}

// For arithmetic that treats x and y alike: packs of half as many boxes that alternate x and y, in an order of lanes
// that store_spans() undoes.
template <typename C> constexpr int boxes_of_span = lanes_of<C> / 2;

template <typename C, typename T> PYRCNN_HD Span<Pack<C>> load_spans(const T* from) {
  const Pack<C> a = load(from), b = load(from + lanes_of<C>);
  if constexpr (lanes_of<C> == 2) {
    return {a, b};
  } else {
    constexpr std::make_integer_sequence<int, lanes_of<C>> all{};
    return {shuffle_fours<0, 1, 4, 5>(a, b, all), shuffle_fours<2, 3, 6, 7>(a, b, all)};
  }
}

template <typename C, typename T> PYRCNN_HD void store_spans(T* to, const Span<Pack<C>>& s) {
  if constexpr (lanes_of<C> == 2) {
    store(to, s.low), store(to + 2, s.high);
  } else {
    constexpr std::make_integer_sequence<int, lanes_of<C>> all{};
    store(to, shuffle_fours<0, 1, 4, 5>(s.low, s.high, all));
    store(to + lanes_of<C>, shuffle_fours<2, 3, 6, 7>(s.low, s.high, all));
  }
}

// A pack that alternates the numbers for x and for y.
template <typename C> PYRCNN_HD Pack<C> alternate(C x, C y) {
  Pack<C> pack;
  for (int i = 0; i < lanes_of<C>; ++i) pack[i] = i % 2 ? y : x;
  return pack;
}

}  // namespace pyrcnn::PYRCNN_ISA
