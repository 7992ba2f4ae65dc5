// Compiled once per instruction set. Finds the pairs of boxes of which the better suppresses the worse, among bundles.
#include "common/simd/pack.h"
#include "bundles.h"

namespace pyrcnn::nms::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// For every byte, the places of its bits that are 1, lowest first, and how many there are.
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

// Appends base + i for every bit i of the lower `width` bits of a word that is 1, and writes kSpare numbers past these.
// No branch depends on the word: it would be mispredicted about once a word.
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

// Appends the bundles in [a, end) whose bounds meet the bounds of the ranges of bundle a's boxes. Bundle a itself is
// the first, unless none of its boxes interacts.
template <typename C>
PYRCNN_HD uint32_t* near_bundles(const BundledBoxes<C>& all, int64_t a, int64_t end, uint32_t* to) {
  constexpr int lanes = lanes_of<C>;
  const BundleBounds<C>& e = all.bounds;
  Pack<C> low[4], high[4];
  for (int c = 0; c < 4; ++c) low[c] = broadcast(e.range_low(c)[a]), high[c] = broadcast(e.range_high(c)[a]);
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

// The ranges of the suppressors of a bundle's boxes.
template <typename C> struct BundleRanges {
  CentreSize<Pack<C>> low[kBundle / lanes_of<C>], high[kBundle / lanes_of<C>];

  PYRCNN_HD BundleRanges(const BoxBundle<C>& bundle, const Reach<C>& reach) {
    for (int k = 0; k < kBundle / lanes_of<C>; ++k) {
      const int at = k * lanes_of<C>;
      const Box<Pack<C>> box{load(bundle.x1 + at), load(bundle.y1 + at), load(bundle.x2 + at), load(bundle.y2 + at)};
      reach.range(centre_size_of(box), low[k], high[k]);
    }
  }
  // One bit per box of the bundle: does its range meet the bounds of bundle b?
  PYRCNN_HD uint32_t meet(const BundleBounds<C>& e, int64_t b) const {
    const auto first = [&](int c) __attribute__((always_inline)) { return broadcast(e.low(c)[b]); };
    const auto last = [&](int c) __attribute__((always_inline)) { return broadcast(e.high(c)[b]); };
    uint32_t word = 0;
#pragma GCC unroll 8
    for (int k = 0; k < kBundle / lanes_of<C>; ++k) {
      const Mask<C> x = (low[k].x <= last(0)) & (high[k].x >= first(0));
      const Mask<C> y = (low[k].y <= last(1)) & (high[k].y >= first(1));
      const Mask<C> w = (low[k].w <= last(2)) & (high[k].w >= first(2));
      const Mask<C> h = (low[k].h <= last(3)) & (high[k].h >= first(3));
      word |= bits(x & y & w & h) << (k * lanes_of<C>);
    }
    return word;
  }
};

// One bit per box of the bundle `other`: does it pass the screen with box i of the bundle `one`? A width below `tiny`
// becomes `tiny` instead of 0, which compilers do in one instruction. A pair that passes only therefore fails the rule.
template <typename C>
PYRCNN_HD uint32_t screened(const BoxBundle<C>& one, int64_t i, const BoxBundle<C>& other, Pack<C> tiny) {
  const Box<Pack<C>> mine{broadcast(one.x1[i]), broadcast(one.y1[i]), broadcast(one.x2[i]), broadcast(one.y2[i])};
  const Pack<C> bound = broadcast(one.bound[i]);
  uint32_t word = 0;
#pragma GCC unroll 8
  for (int at = 0; at < kBundle; at += lanes_of<C>) {
    const Box<Pack<C>> theirs{load(other.x1 + at), load(other.y1 + at), load(other.x2 + at), load(other.y2 + at)};
    const Overlap<Pack<C>> o = overlap(mine, theirs);
    word |= bits(higher(o.w, tiny) * o.h > bound + load(other.bound + at)) << at;
  }
  return word;
}

// Applies the rule to the pairs that passed the screen, and writes those that suppress to `pairs`; returns how many.
// For k in `hits`, the bits of words[k] are the boxes of bundle boxes[k] / kBundle that passed with box boxes[k] %
// kBundle of bundle a.
template <typename C>
PYRCNN_HD int64_t confirm(const BundledBoxes<C>& all, int64_t a, C threshold, const uint32_t* boxes,
                          const uint32_t* words, const uint32_t* hits, const uint32_t* last_hit,
                          SuppressingPair* pairs) {
  const BoxBundle<C>& one = all.bundles[a];
  int64_t n = 0;
  for (; hits < last_hit; ++hits) {
    const int64_t b = boxes[*hits] / kBundle, i = boxes[*hits] % kBundle;
    const BoxBundle<C>& other = all.bundles[b];
    const Box<C> mine{one.x1[i], one.y1[i], one.x2[i], one.y2[i]};
    const C my_area = area(mine);
    const uint32_t my_rank = all.numbers[a * kBundle + i];
    for (uint32_t word = words[*hits]; word != 0; word &= word - 1) {
      const int j = __builtin_ctz(word);
      const Box<C> theirs{other.x1[j], other.y1[j], other.x2[j], other.y2[j]};
      const uint32_t rank = all.numbers[b * kBundle + j], better = lower(rank, my_rank);
      pairs[n] = {better, rank ^ my_rank ^ better};
      n += suppresses(mine, theirs, my_area, area(theirs), threshold);
    }
  }
  return n;
}

template <typename C>
int64_t find_pairs(const BundledBoxes<C>& all, int64_t first, int64_t last, int64_t end, C threshold, uint32_t* near,
                   SuppressingPair* pairs, int64_t room) {
  constexpr int64_t kSome = 16;  // bundles that are compared with one in a step
  constexpr int64_t kMost = kSome * kBundle;
  uint32_t boxes[kMost + kSpare], words[kMost + kSpare], hits[kMost + kSpare];
  const Reach<C> reach(threshold);
  const Pack<C> tiny = broadcast(threshold * C(1e-20));
  int64_t found = 0;
  for (int64_t a = first; a < last; ++a) {
    const BoxBundle<C>& bundle = all.bundles[a];
    const uint32_t* last_near = near_bundles(all, a, end, near);
    const BundleRanges<C> reached(bundle, reach);
    for (const uint32_t* begin = near; begin < last_near; begin += kSome) {
      const int64_t some = last_near - begin < kSome ? last_near - begin : kSome;
      uint32_t* to = boxes;
      for (int64_t k = 0; k < some; ++k)
        to = append_bits<kBundle>(reached.meet(all.bounds, begin[k]), begin[k] * kBundle, to);
      const int64_t n = to - boxes;
      for (int64_t k = 0; k < n; ++k)
        words[k] = screened(bundle, boxes[k] % kBundle, all.bundles[boxes[k] / kBundle], tiny);
      for (int64_t k = 0; k < n && boxes[k] / kBundle == uint32_t(a); ++k)
        words[k] &= ~1u << boxes[k] % kBundle;  // a pair within the bundle is tested once
      for (int64_t k = n; k < n + kSpare; ++k) words[k] = 0;
      uint32_t *last_hit = hits, tests = 0;
      for (int64_t k = 0; k < n; k += 8) {
        uint32_t word = 0;
        for (int i = 0; i < 8; ++i) word |= uint32_t(words[k + i] != 0) << i;
        last_hit = append_bits<8>(word, uint32_t(k), last_hit);
      }
      for (const uint32_t* hit = hits; hit < last_hit; ++hit) tests += uint32_t(__builtin_popcount(words[*hit]));
      if (found + tests > room) return -1;
      found += confirm(all, a, threshold, boxes, words, hits, last_hit, pairs + found);
    }
  }
  return found;
}

template int64_t find_pairs(const BundledBoxes<float>&, int64_t, int64_t, int64_t, float, uint32_t*, SuppressingPair*,
                            int64_t);
template int64_t find_pairs(const BundledBoxes<double>&, int64_t, int64_t, int64_t, double, uint32_t*, SuppressingPair*,
                            int64_t);

}  // namespace pyrcnn::nms::PYRCNN_ISA
