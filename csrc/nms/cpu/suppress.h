// Greedy suppression of one set of candidates, by the loop that is faster for its size. Uses std, so it is for
// *_cpu.cpp.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "common/simd/sort.h"
#include "by_pairs.h"
#include "nearby.h"

namespace pyrcnn::nms {

constexpr int64_t kManyBoxes = 640;  // that may be kept: from here on the index of those kept does

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

// Do pairs pay for these candidates?
template <typename T> bool pairs_pay(const Candidates<T>& candidates, compute_t<T> threshold) {
  return Screen<compute_t<T>>(threshold).usable && candidates.count >= kPairedBoxes && few_pairs(candidates, threshold);
}

// As greedy() of nms_kernel.h: each candidate is held against those kept before it.
template <typename T>
int64_t suppress_in_turn(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, uint32_t* kept) {
  using C = compute_t<T>;
  const int64_t n = candidates.count;
  if (std::min(n, max_output) < kManyBoxes || !Screen<C>(threshold).usable) {
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

// The same, or by pairs.
template <typename T>
int64_t suppress(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, uint32_t* kept) {
  const int64_t n = candidates.count;
  if (max_output >= n / 2 && pairs_pay(candidates, threshold)) {
    const std::vector<uint8_t> gone = for_pairs_of(n, [&](auto word) {
      Pairs<T, decltype(word)> pairs(candidates, threshold);
      pairs.layout = lay_out(candidates, nullptr, {uint32_t(n)});
      Team::run(kPairsCost * double(n), [&](Team::Member& member) { pairs.find(member); });
      return pairs.gone();
    });
    if (!gone.empty()) {
      int64_t count = 0;
      for (int64_t i = 0; i < n && count < max_output; ++i) kept[count] = uint32_t(i), count += 1 ^ gone[i];
      return count;
    }
  }
  return suppress_in_turn(candidates, threshold, max_output, kept);
}

}  // namespace pyrcnn::nms
