// Compiled once per instruction set.
#include <type_traits>

#include "common/simd/twin.h"
#include "heatmap_peaks.h"

namespace pyrcnn::heatmap_peaks::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;
namespace {

template <typename T> PYRCNN_HD bool may_matter(const Scan<T>& part, int64_t list, int64_t position) {
  return compute_t<T>(part.map.values[position]) >= part.floors[list];  // the floor may have risen since
}

// Gives the candidates of a list that have no score yet their scores and ranks, and drops those of score 0.
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

// Prefetches the values `ahead` of these. (The hardware's own prefetching stops at the end of every page of 4 KiB.)
constexpr int64_t kPage = 4096;
template <typename T> PYRCNN_HD void expect(const T* values, int64_t count, int64_t ahead) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t line = 0; line < count; line += kLine) __builtin_prefetch(values + ahead + line);
}

constexpr int kGroup = 32;  // adjacent values that are compared with the floor together

// The result for up to kGroup values that are judged together, a bit each: `peaks` has no greater neighbour; `open`
// must be judged one by one.
struct Verdict {
  uint32_t peaks, open;
};

// One bit for each of kValues values: has it no greater neighbour? Neighbouring cells are `step` values apart (in NCHW
// a constant). The rows around them begin at `above` and `below`, which are 0 if there is no such row. The cells
// `first` have no neighbour before them, the cells `last` none after them. A NaN neighbour is ignored, because it is
// the first argument of most().
template <int kValues, typename Step, typename T>
PYRCNN_HD uint32_t highest_among(const T* at, Step step, int64_t above, int64_t below, uint32_t first, uint32_t last) {
  using C = compute_t<T>;
  uint32_t before = 0, beside = 0, after = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kValues; i += lanes_of<C>) {
    const Pack<C> value = load(at + i);
    const auto exceeded = [&](int64_t column) {
      const T* to = at + i + column;
      return most(load(to), most(load(to + above), most(load(to + below), value)));
    };
    before |= bits(value == exceeded(-step)) << i;
    beside |= bits(value == exceeded(0)) << i;
    after |= bits(value == exceeded(step)) << i;
  }
  return beside & (before | first) & (after | last);
}

// For NHWC maps, and for maps whose peaks are judged one by one.
template <typename T> struct AnyMapJudge {
  static constexpr int kValues = kGroup;
  const Map<T>& map;
  const bool plain;
  const int64_t row;

  explicit PYRCNN_HD AnyMapJudge(const Scan<T>& part)
      : map(part.map),
        plain(map.channels_last && map.radius == 1 && !(map.tolerance > 0)),
        row(map.channels * map.width) {}
  // The neighbours of a cell are a row further on, outside all caches unless they are prefetched.
  PYRCNN_HD int64_t ahead() const {
    constexpr int64_t kFarthest = 256 << 10;
    return plain && row * int64_t(sizeof(T)) < kFarthest ? row : 0;
  }
  PYRCNN_HD Verdict judge(int64_t position) const {
    if (!plain) return {0, ~0u};
    const int64_t cell = position / map.channels, more = (position + kValues - 1) / map.channels - cell;
    const int64_t y = cell / map.width, x = cell - y * map.width;
    if (x == 0 || x + more + 1 >= map.width) return {0, ~0u};
    const int64_t above = y > 0 ? -row : 0, below = y + 1 < map.height ? row : 0;
    return {highest_among<kValues>(map.values + position, map.channels, above, below, 0, 0), 0};
  }
};

// For NCHW maps whose rows are at least kGroup cells long. If only some cells of a group have a row above or below, its
// cells are judged one by one.
template <typename T, int values> struct PlaneJudge {
  static constexpr int kValues = values;
  const Scan<T>& part;
  const Map<T>& map;
  const int64_t cells;

  explicit PYRCNN_HD PlaneJudge(const Scan<T>& part)
      : part(part), map(part.map), cells(map.channels * map.height * map.width) {}
  PYRCNN_HD int64_t ahead() const { return 0; }
  PYRCNN_HD Verdict judge(int64_t position) const {
    const int64_t row = position / map.width, x = position - row * map.width;
    const int64_t y = map.channels == 1 ? row : row % map.height;
    const bool one_row = x + kValues <= map.width, upper = y > 0, lower = y + 1 < map.height;
    // A group is loaded together with what is before and after its rows; that must not be outside of the tensor.
    const int64_t reach = 1 + (upper ? map.width : 0), far = kValues + 1 + (lower ? map.width : 0);
    const bool sure = map.radius == 1 && (part.after_another || position >= reach) &&
                      (part.before_another || position + far <= cells) && (one_row || (upper && y + 2 < map.height));
    if (!sure) return {0, ~0u};
    const uint32_t last = uint32_t(uint64_t{1} << pyrcnn::lower(map.width - 1 - x, int64_t{32}));
    const uint32_t first = uint32_t(uint64_t{1} << pyrcnn::lower(map.width - x, int64_t{32})) | uint32_t(x == 0);
    const int64_t above = upper ? -map.width : 0, below = lower ? map.width : 0;
    constexpr std::integral_constant<int64_t, 1> step{};
    return {highest_among<kValues>(map.values + position, step, above, below, first, last), 0};
  }
};

// Finds the candidates in three steps, a block of groups at a time: the groups with a value that reaches its floor, the
// peaks among the values of these groups, and those that still reach the floor. No step has a branch that depends on
// the values of a map, which would be mispredicted about every second time.
constexpr int kGroupsAtOnce = 64;
template <bool one_list, typename Judge, typename T>
PYRCNN_HD void scan_groups(const Scan<T>& part, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>, judged = Judge::kValues;
  const Judge judge(part);
  const T* values = part.map.values;
  const int64_t ahead = judge.ahead() + kPage / int64_t(sizeof(T)), advance = lanes % part.lists;
  int64_t position = begin;
  // Which of the values from `at` on reach their floors; `phase` is the list of the first one.
  const auto reaching = [&](int64_t at, int64_t& phase) {
    const Mask<C> reach = load(values + at) >= (one_list ? broadcast(part.floors[0]) : load(part.floors + phase));
    phase += advance;
    if (phase >= part.lists) phase -= part.lists;
    return reach;
  };
  for (int64_t groups; (groups = lower((end - position) / kGroup, int64_t{kGroupsAtOnce})) > 0;) {
    int64_t candidates[kGroupsAtOnce], count = 0, phase = one_list ? 0 : position % part.lists;
    for (const int64_t stop = position + groups * kGroup; position < stop; position += kGroup) {
      expect(values + position, kGroup, ahead);
      Mask<C> any = reaching(position, phase);
#pragma GCC unroll 16
      for (int i = lanes; i < kGroup; i += lanes) any = any | reaching(position + i, phase);
      candidates[count] = position;
      count += bits(any) != 0;
    }
    struct {
      int64_t position;
      uint32_t word;
      bool open;
    } found[kGroupsAtOnce * (kGroup / judged)];
    int64_t parts = 0, peaks = 0;
    for (int64_t c = 0; c < count; ++c) {
      if (!one_list) phase = candidates[c] % part.lists;
#pragma GCC unroll 16
      for (int from = 0; from < kGroup; from += judged) {
        uint32_t word = 0;
#pragma GCC unroll 16
        for (int i = 0; i < judged; i += lanes) word |= bits(reaching(candidates[c] + from + i, phase)) << i;
        found[parts] = {candidates[c] + from, word, false};
        parts += word != 0;
      }
    }
    for (int64_t i = 0; i < parts; ++i) {
      const Verdict verdict = judge.judge(found[i].position);
      found[peaks] = {found[i].position, found[i].word & (verdict.peaks | verdict.open), verdict.open != 0};
      peaks += found[peaks].word != 0;
    }
    for (int64_t i = 0; i < peaks; ++i)
      for (uint32_t word = found[i].word; word != 0; word &= word - 1) {
        const int64_t at = found[i].position + __builtin_ctz(word), list = one_list ? 0 : at % part.lists;
        if (found[i].open) visit(part, at);
        else if (may_matter(part, list, at)) add(part, list, at);
      }
  }
  for (; position < end; ++position) visit(part, position);
}

}  // namespace

template <typename T> void scan(const Scan<T>& part, int64_t begin, int64_t end) {
  const Map<T>& map = part.map;
  const bool rows = !map.channels_last && map.radius > 0 && !(map.tolerance > 0) && map.width >= kGroup;
  // In a keypoint's map few values reach the floor, mostly those of a single pack of a group; in class maps all do at
  // first.
  if (rows && map.channels == 1) scan_groups<true, PlaneJudge<T, lanes_of<compute_t<T>>>>(part, begin, end);
  else if (rows) scan_groups<true, PlaneJudge<T, kGroup>>(part, begin, end);
  else if (part.lists == 1) scan_groups<true, AnyMapJudge<T>>(part, begin, end);
  else scan_groups<false, AnyMapJudge<T>>(part, begin, end);
  for (int64_t list = 0; list < part.lists; ++list) score(part, list);
}

template void scan(const Scan<float>&, int64_t, int64_t);
template void scan(const Scan<double>&, int64_t, int64_t);
template void scan(const Scan<Half>&, int64_t, int64_t);
template void scan(const Scan<BFloat16>&, int64_t, int64_t);

}  // namespace pyrcnn::heatmap_peaks::PYRCNN_ISA
