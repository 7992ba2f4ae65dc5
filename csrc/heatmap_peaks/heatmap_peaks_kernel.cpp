// Compiled once per instruction set.
#include "../common/pack.h"
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;
namespace {

constexpr int kUnroll = 4;

template <typename T> PYRCNN_HD void visit(const Scan<T>& part, int64_t position) {
  using C = compute_t<T>;
  const int64_t list = part.lists == 1 ? 0 : position % part.lists;
  if (!(C(part.map.values[position]) >= part.floors[list])) return;  // the floor may have risen meanwhile
  const Candidate<C> candidate = part.map.judge(position);
  if (!(candidate.score > 0)) return;
  Candidate<C>* items = part.items + list * part.capacity;
  items[part.counts[list]++] = candidate;
  if (part.counts[list] < part.capacity || part.capacity <= part.k) return;
  part.keep_best(items, part.k, part.capacity);
  part.counts[list] = part.k;
  const C floor = floor_of(items[part.k - 1].score, part.map.logits);
  for (int64_t i = list; i < part.lists + kMostLanes; i += part.lists) part.floors[i] = floor;
}

// Of the lanes in `passes`, those that a neighbour in their row does not exceed. Most cells near a peak are sorted out
// here, many at a time; lanes at either end of a row have no neighbour on one side and are left to visit().
template <typename T> PYRCNN_HD uint32_t highest_in_row(const Map<T>& map, int64_t position, uint32_t passes) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const int64_t x = position % map.width;
  // the last lane of this row and the first of the next
  const uint64_t ends = uint64_t{3} << lower(map.width - 1 - x, int64_t{32}) | uint64_t(x == 0);
  const Pack<C> value = load(map.values + position);
  const Mask<C> exceeded = (load(map.values + position - 1) > value) | (load(map.values + position + 1) > value);
  static_assert(lanes <= 16);
  return passes & (~bits(exceeded) | uint32_t(ends));
}

}  // namespace

template <typename T> void scan(const Scan<T>& part, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const T* values = part.map.values;
  const int64_t advance = lanes % part.lists;
  int64_t phase = begin % part.lists, position = begin;  // phase: the list of the next value
  const Map<T>& map = part.map;
  const bool rows = !map.channels_last && map.radius > 0 && !(map.tolerance > 0) && map.width >= lanes;
  for (; position + kUnroll * lanes <= end; position += kUnroll * lanes) {
    Mask<C> passes[kUnroll], any{};
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
      uint32_t left = bits(passes[i]);
      if (rows && left != 0 && at > 0 && at + lanes < map.channels * map.height * map.width)
        left = highest_in_row(map, at, left);
      for (; left != 0; left &= left - 1) visit(part, at + __builtin_ctz(left));
    }
  }
  for (; position < end; ++position) visit(part, position);
}

template void scan(const Scan<float>&, int64_t, int64_t);
template void scan(const Scan<double>&, int64_t, int64_t);
template void scan(const Scan<Half>&, int64_t, int64_t);
template void scan(const Scan<BFloat16>&, int64_t, int64_t);

}  // namespace pyrcnn::heatmap_peaks::PYRCNN_ISA
