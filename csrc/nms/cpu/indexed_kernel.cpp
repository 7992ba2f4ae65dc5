// Compiled once per instruction set. The method "indexed": every candidate is compared with those boxes kept before it
// that an index (indexed.h) finds near it.
#include "in_turn.h"
#include "indexed.h"

namespace pyrcnn::nms::PYRCNN_ISA {

// The range in which a candidate's suppressors lie, as packs that are compared with the bounds of many nodes.
template <typename C> struct CandidateRange {
  Pack<C> low[4], high[4];

  PYRCNN_HD CandidateRange(const CentreSize<C>& point, const Reach<C>& reach) {
    CentreSize<C> from, to;
    reach.range(point, from, to);
    low[0] = broadcast(from.x), low[1] = broadcast(from.y), low[2] = broadcast(from.w), low[3] = broadcast(from.h);
    high[0] = broadcast(to.x), high[1] = broadcast(to.y), high[2] = broadcast(to.w), high[3] = broadcast(to.h);
  }
  // One bit for each of the nodes from `at` on: may it hold a suppressor?
  PYRCNN_HD uint32_t meets(const NodeBounds<C>& bounds, int64_t at) const {
    Mask<C> all = load(bounds.low(0) + at) <= high[0];
    for (int c = 0; c < 4; ++c) {
      if (c > 0) all &= load(bounds.low(c) + at) <= high[c];
      all &= load(bounds.high(c) + at) >= low[c];
    }
    return bits(all);
  }
};

// Extends a node's bounds by a box.
template <typename C> PYRCNN_HD void widen(const NodeBounds<C>& bounds, int64_t node, const CentreSize<C>& p) {
  const C values[4] = {p.x, p.y, p.w, p.h};
  for (int c = 0; c < 4; ++c) {
    C &low = bounds.low(c)[node], &high = bounds.high(c)[node];
    low = lower(values[c], low), high = higher(values[c], high);
  }
}

template <typename C> PYRCNN_HD void clear(const NodeBounds<C>& bounds) {
  for (int c = 0; c < 4; ++c)
    for (int64_t at = 0; at < bounds.nodes; at += lanes_of<C>)
      store(bounds.low(c) + at, broadcast(C(INFINITY))), store(bounds.high(c) + at, broadcast(C(-INFINITY)));
}

// Does a kept box suppress the candidate? Its own leaf, which holds most of those near it, is searched first.
template <typename C>
PYRCNN_HD bool suppressed_in(const KeptIndex<C>& index, int64_t own, const PackedCandidate<C>& candidate,
                             const CandidateRange<C>& range) {
  const auto in_leaf = [&](int64_t leaf) __attribute__((always_inline)) {
    return suppressed<true>(candidate, index.leaves + leaf, index.sizes[leaf] > 0);
  };
  if (in_leaf(own)) return true;
  for (int64_t branches = 0; branches < index.of_branches.nodes; branches += lanes_of<C>)
    for (uint32_t b = range.meets(index.of_branches, branches); b != 0; b &= b - 1) {
      const int64_t first = (branches + __builtin_ctz(b)) * index.leaves_per_branch;
      for (int64_t leaves = first; leaves < first + index.leaves_per_branch; leaves += lanes_of<C>)
        for (uint32_t l = range.meets(index.of_leaves, leaves); l != 0; l &= l - 1) {
          const int64_t leaf = leaves + __builtin_ctz(l);
          if (leaf != own && in_leaf(leaf)) return true;
        }
    }
  return false;
}

template <typename T>
int64_t greedy_indexed(const Candidates<T>& candidates, const KeptIndex<compute_t<T>>& index, compute_t<T> threshold,
                       int64_t max_output, uint32_t* kept) {
  using C = compute_t<T>;
  const Screen<C> screen(threshold);
  const Reach<C> reach(threshold);
  clear(index.of_leaves), clear(index.of_branches);
  int64_t count = 0;
  for (int64_t i = 0; i < candidates.count && count < max_output; ++i) {
    if (i + kAhead < candidates.count) __builtin_prefetch(index.leaves[index.positions[i + kAhead] / kBundle].x1);
    const T* row = row_of(candidates, i);
    const Box<C> box{C(row[0]), C(row[1]), C(row[2]), C(row[3])};
    const CentreSize<C> point = centre_size_of(box);
    if (interacts(point)) {
      const C area = pyrcnn::area(box), bound = screen.bound(area);
      const int64_t leaf = index.positions[i] / kBundle;
      const PackedCandidate<C> candidate(box, area, bound, threshold);
      if (suppressed_in(index, leaf, candidate, CandidateRange<C>(point, reach))) continue;
      keep(index.leaves + leaf, index.sizes[leaf]++, box, bound);
      widen(index.of_leaves, leaf, point), widen(index.of_branches, leaf / index.leaves_per_branch, point);
    }
    kept[count++] = uint32_t(i);
  }
  return count;
}

#define PYRCNN_INSTANTIATE(T)                                                                                  \
  template int64_t greedy_indexed(const Candidates<T>&, const KeptIndex<compute_t<T>>&, compute_t<T>, int64_t, \
                                  uint32_t*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)

}  // namespace pyrcnn::nms::PYRCNN_ISA
