// Compiled once per instruction set. A candidate is held against the kept boxes, not the other way round: pairs that a
// stop at max_output makes needless are never looked at, and nothing but the kept boxes is laid out anew.
#include "common/simd/pack.h"
#include "nearby.h"

namespace pyrcnn::nms::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

template <typename C> PYRCNN_HD Box<Pack<C>> kept_boxes(const Tile<C>& tile, int at) {
  return {load(tile.x1 + at), load(tile.y1 + at), load(tile.x2 + at), load(tile.y2 + at)};
}

constexpr int64_t kAhead = 8;  // candidates whose memory is asked for in advance

// Where candidate i lies; asks for one that comes later.
template <typename T> PYRCNN_HD const T* row_of(const Candidates<T>& candidates, int64_t i) {
  const uint32_t* rows = candidates.rows;
  if (rows == nullptr) return candidates.boxes + 4 * i;
  if (i + kAhead < candidates.count) __builtin_prefetch(candidates.boxes + 4 * int64_t(rows[i + kAhead]));
  return candidates.boxes + 4 * int64_t(rows[i]);
}

// One candidate, ready to be held against tiles.
template <typename C> struct Candidate {
  Box<C> box;
  C area, bound, threshold;
  Box<Pack<C>> boxes;
  Pack<C> bounds;

  PYRCNN_HD Candidate(const Box<C>& box, C area, C bound, C threshold)
      : box(box),
        area(area),
        bound(bound),
        threshold(threshold),
        boxes{broadcast(box.x1), broadcast(box.y1), broadcast(box.x2), broadcast(box.y2)},
        bounds(broadcast(bound)) {}

  PYRCNN_HD bool suppressed_by(const Tile<C>& tile) const {
    Mask<C> any{};
    for (int at = 0; at < kTile; at += lanes_of<C>) {
      const Box<Pack<C>> kept = kept_boxes(tile, at);
      any |= suppresses(kept, boxes, pyrcnn::area(kept), broadcast(area), broadcast(threshold));
    }
    return bits(any) != 0;
  }
  // By one of `tiles` tiles in a row? Few boxes pass the screen, and most that do suppress: they are tried one by one.
  template <int tiles> PYRCNN_HD bool screened_by(const Tile<C>* first) const {
    constexpr int kPacks = kTile / lanes_of<C>;
    Mask<C> passes[tiles * kPacks], any{};
    for (int i = 0; i < tiles * kPacks; ++i) {
      const Tile<C>& tile = first[i / kPacks];
      const int at = i % kPacks * lanes_of<C>;
      passes[i] = Screen<C>::overlap(kept_boxes(tile, at), boxes) > load(tile.bound + at) + bounds;
      any |= passes[i];
    }
    if (bits(any) == 0) return false;
    uint32_t word = 0;
    for (int i = 0; i < tiles * kPacks; ++i) word |= bits(passes[i]) << (i * lanes_of<C>);
    for (; word != 0; word &= word - 1) {
      const Tile<C>& tile = first[__builtin_ctz(word) / kTile];
      const int at = __builtin_ctz(word) % kTile;
      const Box<C> kept{tile.x1[at], tile.y1[at], tile.x2[at], tile.y2[at]};
      if (suppresses(kept, box, pyrcnn::area(kept), area, threshold)) return true;
    }
    return false;
  }
};

template <bool kScreen, typename C>
PYRCNN_HD bool suppressed(const Candidate<C>& candidate, const Tile<C>* tiles, int64_t count) {
  int64_t t = 0;
  if (kScreen) {
    for (; t + 2 <= count; t += 2)
      if (candidate.template screened_by<2>(tiles + t)) return true;
    return t < count && candidate.template screened_by<1>(tiles + t);
  }
  for (; t < count; ++t)
    if (candidate.suppressed_by(tiles[t])) return true;
  return false;
}

// The slots of a tile that hold no box yet are NaN, which passes no test.
template <typename C> PYRCNN_HD void keep(Tile<C>* tiles, int64_t count, const Box<C>& box, C bound) {
  const int slot = int(count % kTile);
  Tile<C>& tile = tiles[count / kTile];
  if (slot == 0)
    for (int at = 0; at < 5 * kTile; at += lanes_of<C>) store(tile.x1 + at, broadcast(C(NAN)));
  tile.x1[slot] = box.x1, tile.y1[slot] = box.y1, tile.x2[slot] = box.x2, tile.y2[slot] = box.y2;
  tile.bound[slot] = bound;
}

template <bool kScreen, bool kGroups, typename T, typename C = compute_t<T>>
PYRCNN_HD int64_t visit(const Candidates<T>& candidates, const Groups* groups, C threshold, int64_t max_output,
                        Tile<C>* tiles, uint32_t* kept) {
  const Screen<C> screen(threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < candidates.count && count < max_output; ++i) {
    const T* row = row_of(candidates, i);
    const Box<C> box{C(row[0]), C(row[1]), C(row[2]), C(row[3])};
    const C area = pyrcnn::area(box), bound = screen.bound(area);
    const Candidate<C> candidate(box, area, bound, threshold);
    Tile<C>* of_group = kGroups ? tiles + groups->first_tile[groups->of[i]] : tiles;
    const int64_t rivals = kGroups ? groups->kept[groups->of[i]] : count;
    if (kGroups && rivals >= int64_t(groups->most)) continue;
    if (suppressed<kScreen>(candidate, of_group, tiles_for(rivals))) continue;
    keep(of_group, rivals, box, bound);
    if (kGroups) ++groups->kept[groups->of[i]];
    kept[count++] = uint32_t(i);
  }
  return count;
}

template <typename T>
int64_t greedy(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, Tile<compute_t<T>>* tiles,
               uint32_t* kept) {
  return Screen<compute_t<T>>(threshold).usable
             ? visit<true, false>(candidates, nullptr, threshold, max_output, tiles, kept)
             : visit<false, false>(candidates, nullptr, threshold, max_output, tiles, kept);
}

template <typename T>
int64_t greedy_grouped(const Candidates<T>& candidates, const Groups& groups, compute_t<T> threshold,
                       int64_t max_output, Tile<compute_t<T>>* tiles, uint32_t* kept) {
  return Screen<compute_t<T>>(threshold).usable
             ? visit<true, true>(candidates, &groups, threshold, max_output, tiles, kept)
             : visit<false, true>(candidates, &groups, threshold, max_output, tiles, kept);
}

// A candidate's window (nearby.h), to be held against the spans of many nodes.
template <typename C> struct Window {
  Pack<C> low[4], high[4];

  PYRCNN_HD Window(const Place<C>& place, const Reach<C>& reach) {
    Place<C> from, to;
    reach.window(place, from, to);
    low[0] = broadcast(from.x), low[1] = broadcast(from.y), low[2] = broadcast(from.w), low[3] = broadcast(from.h);
    high[0] = broadcast(to.x), high[1] = broadcast(to.y), high[2] = broadcast(to.w), high[3] = broadcast(to.h);
  }
  // Which of the nodes from `at` on may hold a suppressor, a bit each.
  PYRCNN_HD uint32_t meets(const Spans<C>& spans, int64_t at) const {
    Mask<C> all = load(spans.low(0) + at) <= high[0];
    for (int c = 0; c < 4; ++c) {
      if (c > 0) all &= load(spans.low(c) + at) <= high[c];
      all &= load(spans.high(c) + at) >= low[c];
    }
    return bits(all);
  }
};

template <typename C> PYRCNN_HD void widen(const Spans<C>& spans, int64_t node, const Place<C>& p) {
  const C values[4] = {p.x, p.y, p.w, p.h};
  for (int c = 0; c < 4; ++c) {
    C &low = spans.low(c)[node], &high = spans.high(c)[node];
    low = lower(values[c], low), high = higher(values[c], high);
  }
}

template <typename C> PYRCNN_HD void empty(const Spans<C>& spans) {
  for (int c = 0; c < 4; ++c)
    for (int64_t at = 0; at < spans.nodes; at += lanes_of<C>)
      store(spans.low(c) + at, broadcast(C(INFINITY))), store(spans.high(c) + at, broadcast(C(-INFINITY)));
}

// Does any kept box suppress the candidate? Its own leaf, where most rivals are, comes first.
template <typename C>
PYRCNN_HD bool suppressed_in(const Index<C>& index, int64_t own, const Candidate<C>& candidate,
                             const Window<C>& window) {
  const auto in_leaf = [&](int64_t leaf) __attribute__((always_inline)) {
    return suppressed<true>(candidate, index.leaves + leaf, index.sizes[leaf] > 0);
  };
  if (in_leaf(own)) return true;
  for (int64_t branches = 0; branches < index.of_branches.nodes; branches += lanes_of<C>)
    for (uint32_t b = window.meets(index.of_branches, branches); b != 0; b &= b - 1) {
      const int64_t first = (branches + __builtin_ctz(b)) * index.leaves_per_branch;
      for (int64_t leaves = first; leaves < first + index.leaves_per_branch; leaves += lanes_of<C>)
        for (uint32_t l = window.meets(index.of_leaves, leaves); l != 0; l &= l - 1) {
          const int64_t leaf = leaves + __builtin_ctz(l);
          if (leaf != own && in_leaf(leaf)) return true;
        }
    }
  return false;
}

template <typename T>
int64_t greedy_indexed(const Candidates<T>& candidates, const Index<compute_t<T>>& index, compute_t<T> threshold,
                       int64_t max_output, uint32_t* kept) {
  using C = compute_t<T>;
  const Screen<C> screen(threshold);
  const Reach<C> reach(threshold);
  empty(index.of_leaves), empty(index.of_branches);
  int64_t count = 0;
  for (int64_t i = 0; i < candidates.count && count < max_output; ++i) {
    if (i + kAhead < candidates.count) __builtin_prefetch(index.leaves[index.positions[i + kAhead] / kTile].x1);
    const T* row = row_of(candidates, i);
    const Box<C> box{C(row[0]), C(row[1]), C(row[2]), C(row[3])};
    const Place<C> place = place_of(box);
    if (interacts(place)) {
      const C area = pyrcnn::area(box), bound = screen.bound(area);
      const int64_t leaf = index.positions[i] / kTile;
      const Candidate<C> candidate(box, area, bound, threshold);
      if (suppressed_in(index, leaf, candidate, Window<C>(place, reach))) continue;
      keep(index.leaves + leaf, index.sizes[leaf]++, box, bound);
      widen(index.of_leaves, leaf, place), widen(index.of_branches, leaf / index.leaves_per_branch, place);
    }
    kept[count++] = uint32_t(i);
  }
  return count;
}

void sort_few(const uint32_t* keys, int64_t count, uint32_t* order) {
  constexpr int lanes = lanes_of<int32_t>, kPacks = 4;
  int32_t values[kFew + kPacks * lanes] = {}, ranks[kFew + kPacks * lanes];
  for (int64_t i = 0; i < count; ++i) values[i] = int32_t(keys[i] ^ 0x80000000u);  // compared as signed
  for (int64_t i = 0; i < count; i += kPacks * lanes) {
    Pack<int32_t> mine[kPacks], smaller[kPacks] = {};
    for (int p = 0; p < kPacks; ++p) mine[p] = load(values + i + p * lanes);
    for (int64_t j = 0; j < count; ++j)
      for (int p = 0; p < kPacks; ++p) smaller[p] -= broadcast(values[j]) < mine[p];
    for (int p = 0; p < kPacks; ++p) store(ranks + i + p * lanes, smaller[p]);
  }
  uint8_t equals[kFew] = {};
  for (int64_t i = 0; i < count; ++i) order[ranks[i] + equals[ranks[i]]++] = uint32_t(i);
}

#define PYRCNN_INSTANTIATE(T)                                                                                      \
  template int64_t greedy(const Candidates<T>&, compute_t<T>, int64_t, Tile<compute_t<T>>*, uint32_t*);            \
  template int64_t greedy_grouped(const Candidates<T>&, const Groups&, compute_t<T>, int64_t, Tile<compute_t<T>>*, \
                                  uint32_t*);                                                                      \
  template int64_t greedy_indexed(const Candidates<T>&, const Index<compute_t<T>>&, compute_t<T>, int64_t, uint32_t*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)

}  // namespace pyrcnn::nms::PYRCNN_ISA
