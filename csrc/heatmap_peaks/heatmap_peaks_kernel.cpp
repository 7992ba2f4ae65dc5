// Compiled once per instruction set.
#include "../common/pack.h"
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;
namespace {

template <typename T> PYRCNN_HD bool may_matter(const Scan<T>& part, int64_t list, int64_t position) {
  return compute_t<T>(part.map.values[position]) >= part.floors[list];  // the floor may have risen meanwhile
}

template <typename T> PYRCNN_HD void add(const Scan<T>& part, int64_t list, const Candidate<compute_t<T>>& candidate) {
  if (!(candidate.score > 0)) return;
  Candidate<compute_t<T>>* items = part.items + list * part.capacity;
  items[part.counts[list]++] = candidate;
  if (part.counts[list] < part.capacity || part.capacity <= part.k) return;
  part.keep_best(items, part.k, part.capacity);
  part.counts[list] = part.k;
  const auto floor = floor_of(items[part.k - 1].score, part.map.logits);
  for (int64_t i = list; i < part.lists + kMostLanes; i += part.lists) part.floors[i] = floor;
}

template <typename T> PYRCNN_HD void visit(const Scan<T>& part, int64_t position) {
  const int64_t list = part.lists == 1 ? 0 : position % part.lists;
  if (may_matter(part, list, position)) add(part, list, part.map.judge(position));
}

// The hardware's own prefetching stops at the end of every 4 KiB page.
template <typename T> PYRCNN_HD void expect(const T* values, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T), kAhead = 4096 / sizeof(T);
  for (int64_t line = 0; line < count; line += kLine) __builtin_prefetch(values + kAhead + line);
}

// Any map, a few packs at a time.
template <typename T> PYRCNN_HD void scan_any(const Scan<T>& part, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>, kUnroll = 4;
  const T* values = part.map.values;
  const int64_t advance = lanes % part.lists;
  int64_t phase = begin % part.lists, position = begin;  // phase: the list of the next value
  for (; position + kUnroll * lanes <= end; position += kUnroll * lanes) {
    Mask<C> passes[kUnroll], any{};
    expect(values + position, kUnroll * lanes);
    for (int i = 0; i < kUnroll; ++i) {
      passes[i] = load(values + position + i * lanes) >= load(part.floors + phase);
      any |= passes[i];
      phase += advance;
      if (phase >= part.lists) phase -= part.lists;
    }
    if (bits(any) == 0) [[likely]]
      continue;
    for (int i = 0; i < kUnroll; ++i)
      for (uint32_t word = bits(passes[i]); word != 0; word &= word - 1)
        visit(part, position + i * lanes + __builtin_ctz(word));
  }
  for (; position < end; ++position) visit(part, position);
}

constexpr int kGroup = 32;  // neighbouring cells that scan_rows() looks at together

// Those of kGroup cells that reach `floor` and that no neighbour exceeds, a bit each.
template <typename T> PYRCNN_HD uint32_t peaks_among(const T* at, int64_t width, Pack<compute_t<T>> floor) {
  using C = compute_t<T>;
  uint32_t peaks = 0;
#pragma GCC unroll 8
  for (int i = 0; i < kGroup; i += lanes_of<C>) {
    const Pack<C> value = load(at + i);
    const auto lets = [&](int64_t offset) { return ~(load(at + i + offset) > value); };
    const Mask<C> row = lets(-1) & lets(1), above = lets(-width - 1) & lets(-width) & lets(1 - width);
    peaks |= bits((value >= floor) & row & above & lets(width - 1) & lets(width) & lets(width + 1)) << i;
  }
  return peaks;
}

// Maps whose rows are at least kGroup cells in a row of memory: nearly all cells around a peak are sorted out many at a
// time. Cells at the border of a map have fewer neighbours and are judged one by one.
template <typename T> PYRCNN_HD void scan_rows(const Scan<T>& part, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  const Map<T>& map = part.map;
  const int64_t width = map.width, cells = map.channels * map.height * width, reach = width + 1;
  const int64_t row = begin / width;
  int64_t x = begin - row * width, y = row % map.height, position = begin;
  for (; position + kGroup <= end; position += kGroup) {
    const T* at = map.values + position;
    const Pack<C> floor = broadcast(part.floors[0]);
    Mask<C> passes{};
    expect(at, kGroup);
#pragma GCC unroll 8
    for (int i = 0; i < kGroup; i += lanes_of<C>) passes |= load(at + i) >= floor;
    if (bits(passes) != 0) [[unlikely]] {
      uint32_t sure = 0, open = ~0u;
      if (y > 0 && y + 1 + (x + kGroup > width) < map.height && position >= reach &&
          position + kGroup + reach <= cells) {
        const uint32_t peaks = peaks_among(at, width, floor);
        // the last cell of this row and the first of the next
        const uint32_t ends = uint32_t(uint64_t{3} << lower(width - 1 - x, int64_t{32})) | uint32_t(x == 0);
        sure = map.radius == 1 ? peaks & ~ends : 0, open = (peaks | ends) & ~sure;
      }
      for (; open != 0; open &= open - 1) visit(part, position + __builtin_ctz(open));
      for (; sure != 0; sure &= sure - 1) {
        const int64_t peak = position + __builtin_ctz(sure);
        if (may_matter(part, 0, peak)) add(part, 0, {map.score(C(map.values[peak])), map.rank(peak)});
      }
    }
    x += kGroup;
    if (x >= width) x -= width, y = y + 1 == map.height ? 0 : y + 1;
  }
  for (; position < end; ++position) visit(part, position);
}

}  // namespace

template <typename T> void scan(const Scan<T>& part, int64_t begin, int64_t end) {
  const Map<T>& map = part.map;
  if (!map.channels_last && map.radius > 0 && !(map.tolerance > 0) && map.width >= kGroup) scan_rows(part, begin, end);
  else scan_any(part, begin, end);
}

template void scan(const Scan<float>&, int64_t, int64_t);
template void scan(const Scan<double>&, int64_t, int64_t);
template void scan(const Scan<Half>&, int64_t, int64_t);
template void scan(const Scan<BFloat16>&, int64_t, int64_t);

}  // namespace pyrcnn::heatmap_peaks::PYRCNN_ISA
