// Suppression by pairs: what lies between the kernels of pairs.h. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "nms_kernel.h"

namespace pyrcnn::nms {

template <typename T> std::unique_ptr<T[]> scratch(int64_t count) { return std::unique_ptr<T[]>(new T[count]); }

constexpr int64_t kPairedBoxes = 160;  // from here on tiles along the curve repay the time to make them

// Are there so few pairs that finding all of them pays? From how many in a sample of the candidates suppress each
// other. What it competes with takes longer per box the more boxes there are.
template <typename T> bool few_pairs(const Candidates<T>& candidates, compute_t<T> threshold) {
  constexpr int64_t kMost = 512;
  const int64_t n = candidates.count, some = std::clamp<int64_t>(n / 12, 32, kMost);
  uint32_t sample[kMost], kept[kMost];
  for (int64_t i = 0; i < some; ++i) {
    const int64_t at = i * n / some;
    sample[i] = candidates.rows == nullptr ? uint32_t(at) : candidates.rows[at];
  }
  const auto tiles = scratch<Tile<compute_t<T>>>(tiles_for(some));
  const int64_t gone =
      some - PYRCNN_KERNEL_OF(nms, greedy<T>)({candidates.boxes, sample, some}, threshold, some, tiles.get(), kept);
  const double pairs = double(gone) * double(n) / double(some) * double(n) / double(some);
  return pairs < std::min(1 + double(n) / 2500, 6.0) * double(n);
}

// Tiles [first, last) are to be held against each other and against those before `end`.
struct Stretch {
  int64_t first, last, end;
};

// Which candidates are suppressed, by rank: gone[rank] is 1 or 0. Nothing at all if there are too many pairs to tell.
// Candidate i is of the group group_of[i], and its rank among all groups' is rank_of[i]; where these are null there is
// one group, and the candidates are in order of rank. `sizes`: candidates of each group.
template <typename T>
std::vector<uint8_t> find_gone(const Candidates<T>& candidates, const uint32_t* group_of,
                               const std::vector<uint32_t>& sizes, const uint32_t* rank_of, compute_t<T> threshold) {
  using C = compute_t<T>;
  constexpr int64_t kChunk = 64, kRoom = 8 * kTile;  // tiles that are searched together; edges for each
  const int64_t n = candidates.count;
  std::vector<Stretch> stretches;
  std::vector<int64_t> next;  // where the next candidate of each group goes
  int64_t count = 0;
  for (const uint32_t size : sizes) {
    const int64_t end = count + tiles_for(size);
    next.push_back(count * kTile);
    for (; count < end; count += kChunk) stretches.push_back({count, std::min(count + kChunk, end), end});
    count = end;
  }

  auto ranks = scratch<uint32_t>(count * kTile);
  {
    const auto keys = scratch<uint32_t>(tiles_for(n) * kTile), bins = scratch<uint32_t>(kBins);
    const auto line = scratch<uint32_t>(group_of == nullptr ? 0 : n);
    uint32_t* to = group_of == nullptr ? ranks.get() : line.get();
    PYRCNN_KERNEL(strew<T>)(candidates, keys.get(), bins.get(), to);
    std::fill(ranks.get() + (group_of == nullptr ? n : 0), ranks.get() + count * kTile, kNobody);
    if (group_of != nullptr)
      for (int64_t i = 0; i < n; ++i) ranks[next[group_of[line[i]]]++] = line[i];
  }
  const int64_t nodes = ceil_div(count, kTile) * kTile;
  auto tiles = scratch<Tile<C>>(count);
  auto extents = scratch<C>(kExtents * nodes);
  const Strewn<C> all{count, ranks.get(), tiles.get(), {extents.get(), nodes}};
  PYRCNN_KERNEL(fill_tiles<T>)(candidates, threshold, all);
  if (rank_of != nullptr)
    for (int64_t i = 0; i < count * kTile; ++i)
      if (ranks[i] != kNobody) ranks[i] = rank_of[ranks[i]];

  const int64_t parts = int64_t(stretches.size());
  const auto edges = scratch<Edge>(count * kRoom);
  std::vector<int64_t> found(parts);
  const double tiles_each = double(count) / double(parts), rivals = double(count) / double(sizes.size());
  parallel(parts, tiles_each * (250 + 0.15 * rivals), [&](int64_t begin, int64_t end) {
    const auto near = scratch<uint32_t>(count + kSpare);
    for (int64_t i = begin; i < end; ++i) {
      const Stretch& s = stretches[i];
      found[i] = PYRCNN_KERNEL(find_edges<C>)(all, s.first, s.last, s.end, threshold, near.get(),
                                              edges.get() + s.first * kRoom, (s.last - s.first) * kRoom);
    }
  });

  tiles.reset(), extents.reset(), ranks.reset();  // before more is taken

  // By `better`, through counting: when its turn comes, all that may suppress it has had its own.
  std::vector<uint32_t> ends(n + 1);
  int64_t total = 0;
  for (int64_t i = 0; i < parts; ++i) {
    if (found[i] < 0) return {};
    total += found[i];
    const Edge* from = edges.get() + stretches[i].first * kRoom;
    for (const Edge* edge = from; edge < from + found[i]; ++edge) ++ends[edge->better + 1];
  }
  for (int64_t i = 0; i < n; ++i) ends[i + 1] += ends[i];
  const auto sorted = scratch<Edge>(total);
  for (int64_t i = 0; i < parts; ++i) {
    const Edge* from = edges.get() + stretches[i].first * kRoom;
    for (const Edge* edge = from; edge < from + found[i]; ++edge) sorted[ends[edge->better]++] = *edge;
  }
  std::vector<uint8_t> gone(n);
  for (int64_t i = 0; i < total; ++i) gone[sorted[i].worse] |= 1 ^ gone[sorted[i].better];
  return gone;
}

}  // namespace pyrcnn::nms
