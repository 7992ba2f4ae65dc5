// Compiled once per instruction set: the pairs of boxes that the rule is about, among tiles along a curve.
#include "common/simd/pack.h"
#include "pairs.h"

namespace pyrcnn::nms::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// The bits of every byte, lowest first, and how many there are.
struct Bits {
  uint32_t places[256][8];
  uint8_t counts[256];
  constexpr Bits() : places(), counts() {
    for (int byte = 0; byte < 256; ++byte)
      for (int i = 0; i < 8; ++i)
        if (byte >> i & 1) places[byte][counts[byte]++] = uint32_t(i);
  }
};
constexpr Bits kBits;

// Appends base + i for every bit i of the lower `width` bits of a word; kSpare more are written. Without a branch,
// which would be foreseen wrongly once a word.
template <int width> PYRCNN_HD uint32_t* append_bits(uint32_t word, uint32_t base, uint32_t* to) {
  using Words = uint32_t __attribute__((vector_size(32)));
#pragma GCC unroll 4
  for (int at = 0; at < width; at += 8) {
    const uint32_t byte = word >> at & 255;
    Words words;
    memcpy(&words, kBits.places[byte], sizeof words);
    words += base + uint32_t(at);
    memcpy(to, &words, sizeof words);
    to += kBits.counts[byte];
  }
  return to;
}

// The tiles in [a, end) with a box in the window of one of a's; a itself comes first if it has a box at all.
template <typename C> PYRCNN_HD uint32_t* near_tiles(const Strewn<C>& all, int64_t a, int64_t end, uint32_t* to) {
  constexpr int lanes = lanes_of<C>;
  const Extents<C>& e = all.extents;
  Pack<C> low[4], high[4];
  for (int c = 0; c < 4; ++c) low[c] = broadcast(e.window_low(c)[a]), high[c] = broadcast(e.window_high(c)[a]);
  const int64_t begin = a / lanes * lanes;
  for (int64_t from = begin; from < end; from += lanes) {
    Mask<C> meets = load(e.low(0) + from) <= high[0];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      if (c > 0) meets &= load(e.low(c) + from) <= high[c];
      meets &= load(e.high(c) + from) >= low[c];
    }
    uint32_t word = bits(meets);
    if (from == begin) word &= ~0u << (a - from);
    if (from + lanes > end) word &= ~(~0u << (end - from));
    to = append_bits<lanes>(word, uint32_t(from), to);
  }
  return to;
}

// The windows of a tile's boxes.
template <typename C> struct Windows {
  Place<Pack<C>> low[kTile / lanes_of<C>], high[kTile / lanes_of<C>];

  PYRCNN_HD Windows(const Tile<C>& tile, const Reach<C>& reach) {
    for (int k = 0; k < kTile / lanes_of<C>; ++k) {
      const int at = k * lanes_of<C>;
      const Box<Pack<C>> box{load(tile.x1 + at), load(tile.y1 + at), load(tile.x2 + at), load(tile.y2 + at)};
      reach.window(place_of(box), low[k], high[k]);
    }
  }
  // Which of them reach what tile b spans, a bit each.
  PYRCNN_HD uint32_t meet(const Extents<C>& e, int64_t b) const {
    const auto first = [&](int c) __attribute__((always_inline)) { return broadcast(e.low(c)[b]); };
    const auto last = [&](int c) __attribute__((always_inline)) { return broadcast(e.high(c)[b]); };
    uint32_t word = 0;
#pragma GCC unroll 8
    for (int k = 0; k < kTile / lanes_of<C>; ++k) {
      const Mask<C> x = (low[k].x <= last(0)) & (high[k].x >= first(0));
      const Mask<C> y = (low[k].y <= last(1)) & (high[k].y >= first(1));
      const Mask<C> w = (low[k].w <= last(2)) & (high[k].w >= first(2));
      const Mask<C> h = (low[k].h <= last(3)) & (high[k].h >= first(3));
      word |= bits(x & y & w & h) << (k * lanes_of<C>);
    }
    return word;
  }
};

// Which boxes of a tile pass the screen with box i of another. A width below zero becomes `tiny`, for which there is
// one instruction; what passes by that fails the rule.
template <typename C> PYRCNN_HD uint32_t screened(const Tile<C>& one, int64_t i, const Tile<C>& other, Pack<C> tiny) {
  const Box<Pack<C>> mine{broadcast(one.x1[i]), broadcast(one.y1[i]), broadcast(one.x2[i]), broadcast(one.y2[i])};
  const Pack<C> bound = broadcast(one.bound[i]);
  uint32_t word = 0;
#pragma GCC unroll 8
  for (int at = 0; at < kTile; at += lanes_of<C>) {
    const Box<Pack<C>> theirs{load(other.x1 + at), load(other.y1 + at), load(other.x2 + at), load(other.y2 + at)};
    const Overlap<Pack<C>> o = overlap(mine, theirs);
    word |= bits(higher(o.w, tiny) * o.h > bound + load(other.bound + at)) << at;
  }
  return word;
}

// The bits of words[k] are the boxes of tile boxes[k] / kTile that pass the screen with box boxes[k] % kTile of tile a,
// for k in `hits`: those that the rule confirms become edges.
template <typename C>
PYRCNN_HD int64_t confirm(const Strewn<C>& all, int64_t a, C threshold, const uint32_t* boxes, const uint32_t* words,
                          const uint32_t* hits, const uint32_t* last_hit, Edge* edges) {
  const Tile<C>& one = all.tiles[a];
  int64_t n = 0;
  for (; hits < last_hit; ++hits) {
    const int64_t b = boxes[*hits] / kTile, i = boxes[*hits] % kTile;
    const Tile<C>& other = all.tiles[b];
    const Box<C> mine{one.x1[i], one.y1[i], one.x2[i], one.y2[i]};
    const C my_area = area(mine);
    const uint32_t my_rank = all.ranks[a * kTile + i];
    for (uint32_t word = words[*hits]; word != 0; word &= word - 1) {
      const int j = __builtin_ctz(word);
      const Box<C> theirs{other.x1[j], other.y1[j], other.x2[j], other.y2[j]};
      const uint32_t rank = all.ranks[b * kTile + j], better = lower(rank, my_rank);
      edges[n] = {better, rank ^ my_rank ^ better};
      n += suppresses(mine, theirs, my_area, area(theirs), threshold);
    }
  }
  return n;
}

template <typename C>
int64_t find_edges(const Strewn<C>& all, int64_t first, int64_t last, int64_t end, C threshold, uint32_t* near,
                   Edge* edges, int64_t room) {
  constexpr int64_t kSome = 16;  // tiles held against one together
  constexpr int64_t kMost = kSome * kTile;
  uint32_t boxes[kMost + kSpare], words[kMost + kSpare], hits[kMost + kSpare];
  const Reach<C> reach(threshold);
  const Pack<C> tiny = broadcast(threshold * C(1e-20));
  int64_t found = 0;
  for (int64_t a = first; a < last; ++a) {
    const Tile<C>& tile = all.tiles[a];
    const uint32_t* last_near = near_tiles(all, a, end, near);
    const Windows<C> reached(tile, reach);
    for (const uint32_t* begin = near; begin < last_near; begin += kSome) {
      const int64_t some = last_near - begin < kSome ? last_near - begin : kSome;
      uint32_t* to = boxes;
      for (int64_t k = 0; k < some; ++k)
        to = append_bits<kTile>(reached.meet(all.extents, begin[k]), begin[k] * kTile, to);
      const int64_t n = to - boxes;
      for (int64_t k = 0; k < n; ++k) words[k] = screened(tile, boxes[k] % kTile, all.tiles[boxes[k] / kTile], tiny);
      for (int64_t k = 0; k < n && boxes[k] / kTile == uint32_t(a); ++k)
        words[k] &= ~1u << boxes[k] % kTile;  // each pair once
      for (int64_t k = n; k < n + kSpare; ++k) words[k] = 0;
      uint32_t *last_hit = hits, tests = 0;
      for (int64_t k = 0; k < n; k += 8) {
        uint32_t word = 0;
        for (int i = 0; i < 8; ++i) word |= uint32_t(words[k + i] != 0) << i;
        last_hit = append_bits<8>(word, uint32_t(k), last_hit);
      }
      for (const uint32_t* hit = hits; hit < last_hit; ++hit) tests += uint32_t(__builtin_popcount(words[*hit]));
      if (found + tests > room) return -1;
      found += confirm(all, a, threshold, boxes, words, hits, last_hit, edges + found);
    }
  }
  return found;
}

template int64_t find_edges(const Strewn<float>&, int64_t, int64_t, int64_t, float, uint32_t*, Edge*, int64_t);
template int64_t find_edges(const Strewn<double>&, int64_t, int64_t, int64_t, double, uint32_t*, Edge*, int64_t);

}  // namespace pyrcnn::nms::PYRCNN_ISA
