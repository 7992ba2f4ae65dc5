// Suppression by pairs: what lies between the kernels of pairs.h. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <algorithm>
#include <atomic>
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
constexpr int64_t kStretch = 8;  // tiles, at most

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
  const int64_t n = candidates.count;
  Layout<C> result;
  result.candidates = n, result.groups = int64_t(sizes.size());
  std::vector<int64_t> next;  // where the next candidate of each group goes
  int64_t count = 0;
  for (const uint32_t size : sizes) {
    const int64_t end = count + tiles_for(size);
    next.push_back(count * kTile);
    for (; count < end; count += kStretch) result.stretches.push_back({count, std::min(count + kStretch, end), end});
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

// The edges of one stretch or a few, each a word whose upper half is `better`.
template <typename Word> struct Found {
  static constexpr int kHalf = 4 * sizeof(Word);
  std::unique_ptr<Word[]> words;
  int64_t count = 0;

  void take(const Edge* edges, int64_t n) {
    words = scratch<Word>(n), count = n;
    for (int64_t i = 0; i < n; ++i) words[i] = Word(edges[i].better) << kHalf | Word(edges[i].worse);
  }
};

// The edges of all stretches; nothing if they are more than kRoom for each tile. A thread searches with room for as
// many as a stretch mostly has, and again with more where that is too little: what is kept is as large as it must be.
template <typename Word, typename C> std::vector<Found<Word>> search(const Layout<C>& layout, C threshold) {
  constexpr int64_t kRoom = 8 * kTile, kUsual = kStretch * kRoom, kMost = 8 * kUsual;
  const int64_t count = layout.all.tile_count, parts = int64_t(layout.stretches.size());
  std::vector<Found<Word>> found(parts);
  std::atomic<int64_t> total{0};
  const double tiles_each = double(count) / double(parts), rivals = double(count) / double(layout.groups);
  parallel(parts, tiles_each * (250 + 0.15 * rivals), [&](int64_t begin, int64_t end) {
    const auto near = scratch<uint32_t>(count + kSpare);
    int64_t room = kUsual, held = 0;
    auto edges = scratch<Edge>(room);
    const auto find = [&](const Stretch& s) {
      return PYRCNN_KERNEL(find_edges<C>)(layout.all, s.first, s.last, s.end, threshold, near.get(), edges.get() + held,
                                          room - held);
    };
    const auto put_down = [&](int64_t i) { found[i].take(edges.get(), held), held = 0; };
    for (int64_t i = begin; i < end && total <= count * kRoom; ++i) {
      int64_t n = find(layout.stretches[i]);
      if (n < 0 && held > 0) put_down(i - 1), n = find(layout.stretches[i]);
      for (; n < 0 && room < kMost; n = find(layout.stretches[i]))
        room *= 2, edges.reset(), edges = scratch<Edge>(room);
      if (n >= 0) held += n, total += n;
      else total += count * kRoom + 1;
      if (held > room / 2 || i + 1 == end) put_down(i);
    }
  });
  if (total > count * kRoom) found.clear();
  return found;
}

// Which of n ranks are gone. The edges are sorted by `better`, through counting: when its turn comes, all that may
// suppress it has had its own.
template <typename Word> std::vector<uint8_t> walk(std::vector<Found<Word>> found, int64_t n) {
  constexpr int kHalf = Found<Word>::kHalf;
  std::vector<uint32_t> ends(n + 1);
  for (const Found<Word>& part : found)
    for (int64_t i = 0; i < part.count; ++i) ++ends[(part.words[i] >> kHalf) + 1];
  for (int64_t i = 0; i < n; ++i) ends[i + 1] += ends[i];
  const int64_t total = ends[n];
  const auto sorted = scratch<Word>(total);
  for (Found<Word>& part : found) {
    for (int64_t i = 0; i < part.count; ++i) sorted[ends[part.words[i] >> kHalf]++] = part.words[i];
    part.words.reset();
  }
  std::vector<uint8_t> gone(n);
  for (int64_t i = 0; i < total; ++i) {
    const Word better = sorted[i] >> kHalf, worse = sorted[i] & ((Word(1) << kHalf) - 1);
    gone[worse] |= 1 ^ gone[better];
  }
  return gone;
}

// Which candidates are suppressed, by rank: gone[rank] is 1 or 0. Nothing at all if there are too many pairs to tell.
// rank_of[i] is the rank of candidate i; null where the candidates are in order of rank.
template <typename T, typename C = compute_t<T>>
std::vector<uint8_t> find_gone(const Candidates<T>& candidates, Layout<C> layout, std::unique_ptr<uint32_t[]> rank_of,
                               C threshold) {
  parallel(layout.all.tile_count, 70, [&](int64_t first, int64_t last) {
    PYRCNN_KERNEL(fill_tiles<T>)(candidates, threshold, first, last, layout.all);
    if (rank_of == nullptr) return;
    for (int64_t i = first * kTile; i < last * kTile; ++i)  // from here on the places hold ranks
      if (layout.numbers[i] != kNobody) layout.numbers[i] = rank_of[layout.numbers[i]];
  });
  rank_of.reset();
  const int64_t n = layout.candidates;
  const auto by_words_of = [&](auto word) -> std::vector<uint8_t> {
    auto found = search<decltype(word)>(layout, threshold);
    if (found.empty()) return {};
    layout.tiles.reset(), layout.extents.reset(), layout.numbers.reset();  // before more is taken
    return walk(std::move(found), n);
  };
  return n <= 1 << 16 ? by_words_of(uint32_t{}) : by_words_of(uint64_t{});
}

}  // namespace pyrcnn::nms
