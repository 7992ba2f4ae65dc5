// Compiled once per instruction set.
#include <type_traits>

#include "../common/pack.h"
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;
namespace {

template <typename T> PYRCNN_HD bool may_matter(const Scan<T>& part, int64_t list, int64_t position) {
  return compute_t<T>(part.map.values[position]) >= part.floors[list];  // the floor may have risen meanwhile
}

// Scores and ranks the candidates of a list that have none yet, and drops those whose score is 0.
template <typename T> PYRCNN_HD void score(const Scan<T>& part, int64_t list) {
  using C = compute_t<T>;
  constexpr int64_t lanes = lanes_of<C>;
  Candidate<C>* items = part.items + list * part.capacity;
  const int64_t count = part.counts[list];
  int64_t kept = part.scored[list];
  for (int64_t i = kept; i < count; i += lanes) {
    const int64_t some = lower(lanes, count - i);
    C scores[lanes] = {};
    for (int64_t j = 0; j < some; ++j) scores[j] = items[i + j].score;
    if (part.map.logits) store(scores, heatmap_peaks::sigmoid(load(scores)));
    for (int64_t j = 0; j < some; ++j) {
      items[kept] = {scores[j], part.map.rank(items[i + j].rank)};
      kept += scores[j] > 0;
    }
  }
  part.counts[list] = part.scored[list] = kept;
}

template <typename T> PYRCNN_HD void add(const Scan<T>& part, int64_t list, int64_t position) {
  Candidate<compute_t<T>>* items = part.items + list * part.capacity;
  items[part.counts[list]++] = {compute_t<T>(part.map.values[position]), position};
  if (part.counts[list] < part.capacity || part.capacity <= part.k) return;
  score(part, list);
  if (part.counts[list] < part.capacity) return;
  part.keep_best(items, part.k, part.capacity);
  part.counts[list] = part.scored[list] = part.k;
  const auto floor = floor_of(items[part.k - 1].score, part.map.logits);
  for (int64_t i = list; i < part.lists + kMostLanes; i += part.lists) part.floors[i] = floor;
}

template <typename T> PYRCNN_HD void visit(const Scan<T>& part, int64_t position) {
  const int64_t list = part.lists == 1 ? 0 : position % part.lists;
  if (may_matter(part, list, position) && part.map.is_peak(position)) add(part, list, position);
}

// Asks for values `ahead` of those that are looked at. (The hardware's own prefetching stops at the end of every 4 KiB
// page.)
constexpr int64_t kPage = 4096;
template <int level, typename T> PYRCNN_HD void expect(const T* values, int64_t count, int64_t ahead) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t line = 0; line < count; line += kLine) __builtin_prefetch(values + ahead + line, 0, level);
}

constexpr int kGroup = 32;  // neighbouring values that are looked at together

// Those of kGroup values that reach their floors, a bit each.
template <typename C> PYRCNN_HD uint32_t word_of(const Mask<C>* passes) {
  uint32_t word = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kGroup / lanes_of<C>; ++i) word |= bits(passes[i]) << (i * lanes_of<C>);
  return word;
}

// Those of kGroup values that no neighbour exceeds, a bit each. Cells beside each other are `step` values apart (in
// NCHW a constant), the rows around them begin at `above` and `below`: 0 in the place of a row that there is not. If
// there are `ends` of rows among them, the bits `first` and `last` have nothing before and after them.
template <bool ends, typename Step, typename T>
PYRCNN_HD uint32_t highest_among(const T* at, Step step, int64_t above, int64_t below, uint32_t first, uint32_t last) {
  using C = compute_t<T>;
  uint32_t before = 0, beside = 0, after = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kGroup; i += lanes_of<C>) {
    const Pack<C> value = load(at + i);
    const auto lets = [&](int64_t offset) { return ~(load(at + i + offset) > value); };
    const Mask<C> column = lets(above) & lets(below), left = lets(above - step) & lets(-step) & lets(below - step),
                  right = lets(above + step) & lets(step) & lets(below + step);
    if constexpr (ends) {
      beside |= bits(column) << i, before |= bits(left) << i, after |= bits(right) << i;
    } else {
      beside |= bits(column & left & right) << i;
    }
  }
  return ends ? beside & (before | first) & (after | last) : beside;
}

// Any map. Most cells of an NHWC map are compared with their neighbours many at a time.
template <bool one_list, typename T> PYRCNN_HD void scan_any(const Scan<T>& part, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>, packs = kGroup / lanes;
  const Map<T>& map = part.map;
  const T* values = map.values;
  const bool plain = map.channels_last && map.radius == 1 && !(map.tolerance > 0);
  // A cell's neighbours are a row further on: outside all caches, if nobody asks in time.
  constexpr int64_t kFarthest = 256 << 10;
  const int64_t row = map.channels * map.width;
  const int64_t ahead = (plain && row * int64_t(sizeof(T)) < kFarthest ? row : 0) + kPage / int64_t(sizeof(T));
  const int64_t advance = lanes % part.lists;
  int64_t phase = begin % part.lists, position = begin;  // phase: the list of the next value
  for (; position + kGroup <= end; position += kGroup) {
    Mask<C> passes[packs], any{};
    expect<2>(values + position, kGroup, ahead);
#pragma GCC unroll 16
    for (int i = 0; i < packs; ++i) {
      passes[i] =
          load(values + position + i * lanes) >= (one_list ? broadcast(part.floors[0]) : load(part.floors + phase));
      any |= passes[i];
      if (one_list) continue;
      phase += advance;
      if (phase >= part.lists) phase -= part.lists;
    }
    if (bits(any) == 0) [[likely]]
      continue;
    uint32_t word = word_of<C>(passes);
    bool sure = false;
    if (plain) {
      const int64_t cell = position / map.channels, more = (position + kGroup - 1) / map.channels - cell;
      const int64_t y = cell / map.width, x = cell - y * map.width;
      sure = x > 0 && x + more + 1 < map.width;
      if (sure)
        word &=
            highest_among<false>(values + position, map.channels, y > 0 ? -row : 0, y + 1 < map.height ? row : 0, 0, 0);
    }
    for (; word != 0; word &= word - 1) {
      const int64_t at = position + __builtin_ctz(word), list = one_list ? 0 : at % part.lists;
      if (!sure) visit(part, at);
      else if (may_matter(part, list, at)) add(part, list, at);
    }
  }
  for (; position < end; ++position) visit(part, position);
}

// NCHW maps whose rows are at least kGroup cells long: nearly all cells are compared with their neighbours many at a
// time. Where some of them have a row above or below and others do not, they are judged one by one.
template <typename T> PYRCNN_HD void scan_rows(const Scan<T>& part, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>, packs = kGroup / lanes;
  const Map<T>& map = part.map;
  const int64_t width = map.width, cells = map.channels * map.height * width;
  const int64_t row = begin / width;
  int64_t x = begin - row * width, y = row % map.height, position = begin;
  for (; position + kGroup <= end; position += kGroup) {
    const T* at = map.values + position;
    const Pack<C> floor = broadcast(part.floors[0]);
    Mask<C> passes[packs], any{};
    expect<3>(at, kGroup, kPage / int64_t(sizeof(T)));
#pragma GCC unroll 16
    for (int i = 0; i < packs; ++i) any |= passes[i] = load(at + i * lanes) >= floor;
    if (bits(any) != 0) [[unlikely]] {
      uint32_t word = word_of<C>(passes);
      const bool one_row = x + kGroup <= width, upper = y > 0, lower = y + 1 < map.height;
      // What lies before and after a row is read in vain, and before the first map and after the last one not at all.
      const int64_t reach = 1 + (upper ? width : 0), far = kGroup + 1 + (lower ? width : 0);
      const bool sure = map.radius == 1 && (part.after_another || position >= reach) &&
                        (part.before_another || position + far <= cells) && (one_row || (upper && y + 2 < map.height));
      if (sure) {
        const uint32_t last = uint32_t(uint64_t{1} << pyrcnn::lower(width - 1 - x, int64_t{32}));
        const uint32_t first = uint32_t(uint64_t{1} << pyrcnn::lower(width - x, int64_t{32})) | uint32_t(x == 0);
        const int64_t above = upper ? -width : 0, below = lower ? width : 0;
        constexpr std::integral_constant<int64_t, 1> step{};
        word &= (first | last) == 0 ? highest_among<false>(at, step, above, below, 0, 0)
                                    : highest_among<true>(at, step, above, below, first, last);
      }
      for (; word != 0; word &= word - 1) {
        const int64_t cell = position + __builtin_ctz(word);
        if (!sure) visit(part, cell);
        else if (may_matter(part, 0, cell)) add(part, 0, cell);
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
  else if (part.lists == 1) scan_any<true>(part, begin, end);
  else scan_any<false>(part, begin, end);
  for (int64_t list = 0; list < part.lists; ++list) score(part, list);
}

template void scan(const Scan<float>&, int64_t, int64_t);
template void scan(const Scan<double>&, int64_t, int64_t);
template void scan(const Scan<Half>&, int64_t, int64_t);
template void scan(const Scan<BFloat16>&, int64_t, int64_t);

}  // namespace pyrcnn::heatmap_peaks::PYRCNN_ISA
