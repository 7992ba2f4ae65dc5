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
  const int64_t n = candidates.count, some = std::clamp<int64_t>(n / 12, 32, kMost), apart = n / some;
  uint32_t sample[kMost], kept[kMost];
  for (int64_t i = 0; i < some; ++i) {  // one of every `apart`, not always the same: boxes may lie in rows
    const int64_t at = i * n / some + (int64_t(uint32_t(i) * 2654435769u) * apart >> 32);
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

// Which candidates go to which tiles. Their order does not matter here, so this can be found out while their scores are
// sorted.
template <typename C> struct Layout {
  std::unique_ptr<uint32_t[]> numbers;  // of the candidate in each place of a tile
  std::unique_ptr<Tile<C>[]> tiles;
  std::unique_ptr<C[]> extents;
  Strewn<C> all;
  std::vector<Stretch> stretches;
  int64_t candidates, groups;
};

// Candidate i is of the group group_of[i], and there are sizes[g] candidates of group g; null where there is one group.
template <typename T>
Layout<compute_t<T>> lay_out(const Candidates<T>& candidates, const uint32_t* group_of,
                             const std::vector<uint32_t>& sizes) {
  using C = compute_t<T>;
  constexpr int64_t kChunk = 64;  // tiles that are searched together
  const int64_t n = candidates.count;
  Layout<C> result;
  result.candidates = n, result.groups = int64_t(sizes.size());
  std::vector<int64_t> next;  // where the next candidate of each group goes
  int64_t count = 0;
  for (const uint32_t size : sizes) {
    const int64_t end = count + tiles_for(size);
    next.push_back(count * kTile);
    for (; count < end; count += kChunk) result.stretches.push_back({count, std::min(count + kChunk, end), end});
    count = end;
  }

  result.numbers = scratch<uint32_t>(count * kTile);
  {
    uint32_t* numbers = result.numbers.get();
    const auto keys = scratch<uint32_t>(tiles_for(n) * kTile), bins = scratch<uint32_t>(kBins);
    const auto line = scratch<uint32_t>(group_of == nullptr ? 0 : n);
    PYRCNN_KERNEL(strew<T>)(candidates, keys.get(), bins.get(), group_of == nullptr ? numbers : line.get());
    std::fill(numbers + (group_of == nullptr ? n : 0), numbers + count * kTile, kNobody);
    if (group_of != nullptr)
      for (int64_t i = 0; i < n; ++i) numbers[next[group_of[line[i]]]++] = line[i];
  }
  const int64_t nodes = ceil_div(count, kTile) * kTile;
  result.tiles = scratch<Tile<C>>(count);
  result.extents = scratch<C>(kExtents * nodes);
  result.all = {count, result.numbers.get(), result.tiles.get(), {result.extents.get(), nodes}};
  for (int e = 0; e < kExtents; ++e)
    std::fill(result.extents.get() + e * nodes + count, result.extents.get() + (e + 1) * nodes, C(NAN));
  return result;
}

// Which candidates are suppressed, by rank: gone[rank] is 1 or 0. Nothing at all if there are too many pairs to tell.
// rank_of[i] is the rank of candidate i; null where the candidates are in order of rank.
template <typename T, typename C = compute_t<T>>
std::vector<uint8_t> find_gone(const Candidates<T>& candidates, Layout<C> layout, const uint32_t* rank_of,
                               C threshold) {
  constexpr int64_t kRoom = 8 * kTile;  // edges for each tile
  const int64_t n = layout.candidates, count = layout.all.tile_count, parts = int64_t(layout.stretches.size());
  parallel(count, 70, [&](int64_t first, int64_t last) {
    PYRCNN_KERNEL(fill_tiles<T>)(candidates, threshold, first, last, layout.all);
  });
  const auto edges = scratch<Edge>(count * kRoom);
  std::vector<int64_t> found(parts);
  const double tiles_each = double(count) / double(parts), rivals = double(count) / double(layout.groups);
  parallel(parts, tiles_each * (250 + 0.15 * rivals), [&](int64_t begin, int64_t end) {
    const auto near = scratch<uint32_t>(count + kSpare);
    for (int64_t i = begin; i < end; ++i) {
      const Stretch& s = layout.stretches[i];
      Edge* to = edges.get() + s.first * kRoom;
      found[i] = PYRCNN_KERNEL(find_edges<C>)(layout.all, s.first, s.last, s.end, threshold, near.get(), to,
                                              (s.last - s.first) * kRoom);
      if (rank_of == nullptr) continue;
      for (Edge* edge = to; edge < to + found[i]; ++edge) {
        const uint32_t a = rank_of[edge->better], b = rank_of[edge->worse];
        *edge = {std::min(a, b), std::max(a, b)};
      }
    }
  });
  layout.tiles.reset(), layout.extents.reset(), layout.numbers.reset();  // before more is taken

  // By `better`, through counting: when its turn comes, all that may suppress it has had its own.
  std::vector<uint32_t> ends(n + 1);
  int64_t total = 0;
  for (int64_t i = 0; i < parts; ++i) {
    if (found[i] < 0) return {};
    total += found[i];
    const Edge* from = edges.get() + layout.stretches[i].first * kRoom;
    for (const Edge* edge = from; edge < from + found[i]; ++edge) ++ends[edge->better + 1];
  }
  for (int64_t i = 0; i < n; ++i) ends[i + 1] += ends[i];
  const auto sorted = scratch<Edge>(total);
  for (int64_t i = 0; i < parts; ++i) {
    const Edge* from = edges.get() + layout.stretches[i].first * kRoom;
    for (const Edge* edge = from; edge < from + found[i]; ++edge) sorted[ends[edge->better]++] = *edge;
  }
  std::vector<uint8_t> gone(n);
  for (int64_t i = 0; i < total; ++i) gone[sorted[i].worse] |= 1 ^ gone[sorted[i].better];
  return gone;
}

}  // namespace pyrcnn::nms
