// Greedy suppression of one set of candidates, by the loop that is faster for its size. Uses std, so it is for
// *_cpu.cpp.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "../common/sort.h"
#include "nearby.h"
#include "nms_kernel.h"

namespace pyrcnn::nms {

template <typename T> std::unique_ptr<T[]> scratch(int64_t count) { return std::unique_ptr<T[]>(new T[count]); }

constexpr int64_t kPairedBoxes = 160;  // from here on tiles along the curve repay the time to make them
constexpr int64_t kManyBoxes = 640;    // that may be kept: from here on the index of those kept does

// Positions for an index: candidates sorted along a Z-curve through five bits of x and of y and two of each size.
struct Placed {
  static constexpr int key_bits = 14;
  uint32_t bits, candidate;
  uint32_t key() const { return bits; }
};

// Bits 0..4 of a coordinate, where they stand in the key; sizes lie between the third and fourth bits of the centre.
inline uint32_t spread_centre(uint32_t v) {
  return (v & 1) | (v & 2) << 3 | (v & 4) << 6 | (v & 8) << 7 | (v & 16) << 8;
}
inline uint32_t spread_size(uint32_t v) { return (v & 1) << 2 | (v & 2) << 5; }

template <typename T> void assign_positions(const Candidates<T>& candidates, uint32_t* positions) {
  using C = compute_t<T>;
  const int64_t n = candidates.count;
  const auto places = scratch<Place<C>>(n);
  // Positive tests, so that NaN and infinities leave the spans alone.
  constexpr C kFar = C(1e30);
  Place<C> low{kFar, kFar, kFar, kFar}, high{-kFar, -kFar, C(0), C(0)};
  const auto extend = [](C value, C& low, C& high) {
    low = value < low && value > -kFar ? value : low, high = value > high && value < kFar ? value : high;
  };
  for (int64_t i = 0; i < n; ++i) {
    const T* row = candidates.boxes + 4 * int64_t(candidates.rows ? candidates.rows[i] : i);
    const Place<C> p = places[i] = place_of(Box<C>{C(row[0]), C(row[1]), C(row[2]), C(row[3])});
    extend(p.x, low.x, high.x), extend(p.y, low.y, high.y), extend(p.w, low.w, high.w), extend(p.h, low.h, high.h);
  }
  const C across = C(32) / higher(high.x - low.x, C(1e-30)), down = C(32) / higher(high.y - low.y, C(1e-30));
  const auto step = [](C at) { return at >= C(1) ? (at < C(32) ? uint32_t(at) : 31u) : 0u; };  // NaN: 0
  const auto octave = [](C size, C most) {                                                     // below the largest
    return size * 2 > most ? 0u : size * 4 > most ? 1u : size * 8 > most ? 2u : 3u;
  };
  const auto items = scratch<Placed>(2 * n);
  for (int64_t i = 0; i < n; ++i) {
    const Place<C>& p = places[i];
    items[i] = {spread_centre(step((p.x - low.x) * across)) << 1 | spread_centre(step((p.y - low.y) * down)) |
                    spread_size(octave(p.w, high.w)) << 1 | spread_size(octave(p.h, high.h)),
                uint32_t(i)};
  }
  const Placed* sorted = radix_sort<7>(items.get(), items.get() + n, n);
  for (int64_t i = 0; i < n; ++i) positions[sorted[i].candidate] = uint32_t(i);
}

// The candidates that stay, from all pairs of which one may suppress the other; -1 if there are too many of them.
template <typename T>
int64_t suppress_by_pairs(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, uint32_t* kept) {
  using C = compute_t<T>;
  constexpr int64_t kChunk = 64, kRoom = 8 * kChunk * kTile;  // tiles that are searched together, and their edges
  const int64_t n = candidates.count, count = tiles_for(n), nodes = ceil_div(count, kTile) * kTile;
  const auto ranks = scratch<uint32_t>(count * kTile);
  {
    const auto keys = scratch<uint32_t>(count * kTile), bins = scratch<uint32_t>(kBins);
    PYRCNN_KERNEL_OF(nms, strew<T>)(candidates, keys.get(), bins.get(), ranks.get());
  }
  const auto tiles = scratch<Tile<C>>(count);
  const auto extents = scratch<C>(kExtents * nodes);
  const Strewn<C> all{count, ranks.get(), tiles.get(), {extents.get(), nodes}};
  PYRCNN_KERNEL_OF(nms, fill_tiles<T>)(candidates, threshold, all);

  const int64_t chunks = ceil_div(count, kChunk);
  const auto edges = scratch<Edge>(chunks * kRoom);
  std::vector<int64_t> found(chunks);
  const auto find_edges = PYRCNN_KERNEL_OF(nms, find_edges<C>);
  parallel(chunks, 15e3 + 10 * double(count), [&](int64_t begin, int64_t end) {
    const auto near = scratch<uint32_t>(count + kSpare);
    for (int64_t c = begin; c < end; ++c)
      found[c] = find_edges(all, c * kChunk, std::min(count, (c + 1) * kChunk), threshold, near.get(),
                            edges.get() + c * kRoom, kRoom);
  });

  // By `better`, through counting: when its turn comes, all that may suppress it has had its own.
  std::vector<uint32_t> ends(n + 1);
  int64_t total = 0;
  for (int64_t c = 0; c < chunks; ++c) {
    if (found[c] < 0) return -1;
    total += found[c];
    for (int64_t i = 0; i < found[c]; ++i) ++ends[edges[c * kRoom + i].better + 1];
  }
  for (int64_t i = 0; i < n; ++i) ends[i + 1] += ends[i];
  const auto sorted = scratch<Edge>(total);
  for (int64_t c = 0; c < chunks; ++c)
    for (int64_t i = 0; i < found[c]; ++i) {
      const Edge& edge = edges[c * kRoom + i];
      sorted[ends[edge.better]++] = edge;
    }
  std::vector<uint8_t> gone(n);
  for (int64_t i = 0; i < total; ++i) gone[sorted[i].worse] |= 1 ^ gone[sorted[i].better];
  int64_t stay = 0;
  for (int64_t i = 0; i < n && stay < max_output; ++i) kept[stay] = uint32_t(i), stay += 1 ^ gone[i];
  return stay;
}

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

// As greedy() of nms_kernel.h.
template <typename T>
int64_t suppress(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, uint32_t* kept) {
  using C = compute_t<T>;
  const int64_t n = candidates.count;
  const bool usable = Screen<C>(threshold).usable;
  if (usable && n >= kPairedBoxes && max_output >= n / 2 && few_pairs(candidates, threshold)) {
    const int64_t count = suppress_by_pairs(candidates, threshold, max_output, kept);
    if (count >= 0) return count;
  }
  if (std::min(n, max_output) < kManyBoxes || !usable) {
    const auto tiles = scratch<Tile<C>>(tiles_for(std::min(n, max_output)));
    return PYRCNN_KERNEL_OF(nms, greedy<T>)(candidates, threshold, max_output, tiles.get(), kept);
  }
  const auto positions = scratch<uint32_t>(n);
  assign_positions(candidates, positions.get());
  const int64_t leaves = ceil_div(tiles_for(n), kTile) * kTile;
  const int64_t per_branch = ceil_div(int64_t(std::sqrt(double(leaves))), kTile) * kTile;
  const int64_t branches = ceil_div(ceil_div(leaves, per_branch), kTile) * kTile;
  const auto tiles = scratch<Tile<C>>(leaves);
  const int64_t nodes = branches * per_branch;
  std::vector<uint32_t> sizes(nodes);
  const auto spans = scratch<C>(8 * (nodes + branches));
  const Index<C> index{positions.get(), per_branch,           tiles.get(),
                       sizes.data(),    {spans.get(), nodes}, {spans.get() + 8 * nodes, branches}};
  return PYRCNN_KERNEL_OF(nms, greedy_indexed<T>)(candidates, index, threshold, max_output, kept);
}

}  // namespace pyrcnn::nms
