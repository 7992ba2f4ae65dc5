// Compiled once per instruction set.
#include "../common/pack.h"
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;
namespace {

constexpr int kUnroll = 4;

// `sure`: no neighbour exceeds it.
template <typename T> PYRCNN_HD void visit(const Scan<T>& part, int64_t position, bool sure = false) {
  using C = compute_t<T>;
  const int64_t list = part.lists == 1 ? 0 : position % part.lists;
  if (!(C(part.map.values[position]) >= part.floors[list])) return;  // the floor may have risen meanwhile
  const Map<T>& map = part.map;
  const Candidate<C> candidate =
      sure ? Candidate<C>{map.score(C(map.values[position])), map.rank(position)} : map.judge(position);
  if (!(candidate.score > 0)) return;
  Candidate<C>* items = part.items + list * part.capacity;
  items[part.counts[list]++] = candidate;
  if (part.counts[list] < part.capacity || part.capacity <= part.k) return;
  part.keep_best(items, part.k, part.capacity);
  part.counts[list] = part.k;
  const C floor = floor_of(items[part.k - 1].score, part.map.logits);
  for (int64_t i = list; i < part.lists + kMostLanes; i += part.lists) part.floors[i] = floor;
}

struct Lanes {
  uint32_t open, sure;  // those left, and those of them that are peaks
};

// Of the lanes in `passes`, those that no neighbour is seen to exceed. Nearly all cells around a peak are sorted out
// here, many at a time. A lane at either end of a row has no neighbour on one side and is left to visit(), as are all
// lanes of a pack that touches a map's first or last row: there only the neighbours in the row are looked at.
template <typename T> PYRCNN_HD Lanes highest_of_neighbours(const Map<T>& map, int64_t position, uint32_t passes) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  static_assert(lanes <= 16);
  const int64_t w = map.width, row = position / w, x = position - row * w, y = row % map.height;
  const Pack<C> value = load(map.values + position);
  const auto exceeds = [&](int64_t offset) { return load(map.values + position + offset) > value; };
  Mask<C> exceeded = exceeds(-1) | exceeds(1);
  const bool inside = y > 0 && y + 1 + (x + lanes > w) < map.height;
  if (inside) exceeded |= exceeds(-w - 1) | exceeds(-w) | exceeds(1 - w) | exceeds(w - 1) | exceeds(w) | exceeds(w + 1);
  // the last lane of this row and the first of the next
  const uint32_t ends = uint32_t(uint64_t{3} << lower(w - 1 - x, int64_t{32})) | uint32_t(x == 0);
  const uint32_t open = passes & (~bits(exceeded) | ends);
  return {open, inside && map.radius == 1 ? open & ~ends : 0};
}

}  // namespace

template <typename T> void scan(const Scan<T>& part, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  // The hardware's own prefetching stops at the end of every 4 KiB page.
  constexpr int64_t kLine = 64 / sizeof(T), kAhead = 4096 / sizeof(T);
  const T* values = part.map.values;
  const int64_t advance = lanes % part.lists;
  int64_t phase = begin % part.lists, position = begin;  // phase: the list of the next value
  const Map<T>& map = part.map;
  const bool rows = !map.channels_last && map.radius > 0 && !(map.tolerance > 0) && map.width >= lanes;
  const int64_t first = map.width + 1, last = map.channels * map.height * map.width - map.width - 1 - lanes;
  for (; position + kUnroll * lanes <= end; position += kUnroll * lanes) {
    Mask<C> passes[kUnroll], any{};
    for (int64_t line = 0; line < kUnroll * lanes; line += kLine) __builtin_prefetch(values + position + kAhead + line);
    for (int i = 0; i < kUnroll; ++i) {
      passes[i] = load(values + position + i * lanes) >= load(part.floors + phase);
      any |= passes[i];
      phase += advance;
      if (phase >= part.lists) phase -= part.lists;
    }
    if (bits(any) == 0) [[likely]]
      continue;
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t at = position + i * lanes;
      Lanes left{bits(passes[i]), 0};
      if (rows && left.open != 0 && at >= first && at <= last) left = highest_of_neighbours(map, at, left.open);
      for (uint32_t word = left.open; word != 0; word &= word - 1) {
        const int lane = __builtin_ctz(word);
        visit(part, at + lane, left.sure >> lane & 1);
      }
    }
  }
  for (; position < end; ++position) visit(part, position);
}

template void scan(const Scan<float>&, int64_t, int64_t);
template void scan(const Scan<double>&, int64_t, int64_t);
template void scan(const Scan<Half>&, int64_t, int64_t);
template void scan(const Scan<BFloat16>&, int64_t, int64_t);

}  // namespace pyrcnn::heatmap_peaks::PYRCNN_ISA
