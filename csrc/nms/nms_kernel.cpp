// Compiled once per instruction set. A candidate is held against the kept boxes, not the other way round: pairs that a
// stop at max_output makes needless are never looked at, and nothing but the kept boxes is laid out anew.
#include "../common/pack.h"
#include "nms.h"

namespace pyrcnn::nms::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

template <typename C> PYRCNN_HD Box<Pack<C>> on_all_lanes(const Box<C>& b) {
  return {broadcast(b.x1), broadcast(b.y1), broadcast(b.x2), broadcast(b.y2)};
}
template <typename C> PYRCNN_HD Box<Pack<C>> kept_boxes(const Tile<C>& tile, int at) {
  return {load(tile.x1 + at), load(tile.y1 + at), load(tile.x2 + at), load(tile.y2 + at)};
}

// One candidate, ready to be held against tiles.
template <typename C> struct Candidate {
  Box<Pack<C>> box;
  Pack<C> bound, area, threshold;

  PYRCNN_HD Mask<C> may_suppress(const Tile<C>& tile) const {
    Mask<C> any{};
    for (int at = 0; at < kTile; at += lanes_of<C>)
      any |= Screen<C>::overlap(kept_boxes(tile, at), box) > load(tile.bound + at) + bound;
    return any;
  }
  PYRCNN_HD bool suppressed_by(const Tile<C>& tile) const {
    Mask<C> any{};
    for (int at = 0; at < kTile; at += lanes_of<C>) {
      const Box<Pack<C>> kept = kept_boxes(tile, at);
      any |= suppresses(kept, box, pyrcnn::area(kept), area, threshold);
    }
    return bits(any) != 0;
  }
};

template <bool kScreen, typename C>
PYRCNN_HD bool suppressed(const Candidate<C>& candidate, const Tile<C>* tiles, int64_t count) {
  int64_t t = 0;
  if (kScreen) {
    for (; t + 2 <= count; t += 2) {
      if (bits(candidate.may_suppress(tiles[t]) | candidate.may_suppress(tiles[t + 1])) == 0) continue;
      if (candidate.suppressed_by(tiles[t]) || candidate.suppressed_by(tiles[t + 1])) return true;
    }
    for (; t < count; ++t)
      if (bits(candidate.may_suppress(tiles[t])) != 0 && candidate.suppressed_by(tiles[t])) return true;
    return false;
  }
  for (; t < count; ++t)
    if (candidate.suppressed_by(tiles[t])) return true;
  return false;
}

// The slots of a tile that hold no box yet are NaN, which passes no test.
template <typename C> PYRCNN_HD void keep(Tile<C>* tiles, int64_t count, const Box<C>& box, C bound) {
  const int slot = int(count % kTile);
  Tile<C>& tile = tiles[count / kTile];
  if (slot == 0)
    for (int at = 0; at < 5 * kTile; at += lanes_of<C>) store(tile.x1 + at, broadcast(C(NAN)));
  tile.x1[slot] = box.x1, tile.y1[slot] = box.y1, tile.x2[slot] = box.x2, tile.y2[slot] = box.y2;
  tile.bound[slot] = bound;
}

template <bool kScreen, bool kGroups, typename T, typename C = compute_t<T>>
PYRCNN_HD int64_t visit(const Candidates<T>& candidates, const Groups* groups, C threshold, int64_t max_output,
                        Tile<C>* tiles, uint32_t* kept) {
  const Screen<C> screen(threshold);
  const Pack<C> thresholds = broadcast(threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < candidates.count && count < max_output; ++i) {
    const T* row = candidates.boxes + 4 * int64_t(candidates.rows ? candidates.rows[i] : i);
    const Box<C> box{C(row[0]), C(row[1]), C(row[2]), C(row[3])};
    const C area = pyrcnn::area(box), bound = screen.bound(area);
    const Candidate<C> candidate{on_all_lanes(box), broadcast(bound), broadcast(area), thresholds};
    Tile<C>* of_group = kGroups ? tiles + groups->first_tile[groups->of[i]] : tiles;
    const int64_t rivals = kGroups ? groups->kept[groups->of[i]] : count;
    if (kGroups && rivals >= int64_t(groups->most)) continue;
    if (suppressed<kScreen>(candidate, of_group, tiles_for(rivals))) continue;
    keep(of_group, rivals, box, bound);
    if (kGroups) ++groups->kept[groups->of[i]];
    kept[count++] = uint32_t(i);
  }
  return count;
}

template <typename T>
int64_t greedy(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output, Tile<compute_t<T>>* tiles,
               uint32_t* kept) {
  return Screen<compute_t<T>>(threshold).usable
             ? visit<true, false>(candidates, nullptr, threshold, max_output, tiles, kept)
             : visit<false, false>(candidates, nullptr, threshold, max_output, tiles, kept);
}

template <typename T>
int64_t greedy_grouped(const Candidates<T>& candidates, const Groups& groups, compute_t<T> threshold,
                       int64_t max_output, Tile<compute_t<T>>* tiles, uint32_t* kept) {
  return Screen<compute_t<T>>(threshold).usable
             ? visit<true, true>(candidates, &groups, threshold, max_output, tiles, kept)
             : visit<false, true>(candidates, &groups, threshold, max_output, tiles, kept);
}

// Does a kept box of any cell that overlaps the candidate suppress it? Its own cell, where most rivals are, comes
// first.
template <typename C>
PYRCNN_HD bool suppressed_in_cells(const Candidate<C>& candidate, const Cells<C>& cells, int64_t own,
                                   const Tile<C>* tiles) {
  const auto in_cell = [&](int64_t cell) __attribute__((always_inline)) {
    return suppressed<true>(candidate, tiles + cells.boxes.first_tile[cell], tiles_for(cells.boxes.kept[cell]));
  };
  if (in_cell(own)) return true;
  const C *x1 = cells.bounds, *y1 = x1 + cells.count, *x2 = y1 + cells.count, *y2 = x2 + cells.count;
  const Box<Pack<C>>& box = candidate.box;
  for (int64_t at = 0; at < cells.count; at += lanes_of<C>) {
    const Mask<C> overlaps =
        (box.x2 > load(x1 + at)) & (box.x1 < load(x2 + at)) & (box.y2 > load(y1 + at)) & (box.y1 < load(y2 + at));
    for (uint32_t rest = bits(overlaps); rest != 0; rest &= rest - 1) {
      const int64_t cell = at + __builtin_ctz(rest);
      if (cell != own && in_cell(cell)) return true;
    }
  }
  return false;
}

template <typename T>
int64_t greedy_in_cells(const Candidates<T>& candidates, const Cells<compute_t<T>>& cells, compute_t<T> threshold,
                        Tile<compute_t<T>>* tiles, uint32_t* kept) {
  using C = compute_t<T>;
  const Screen<C> screen(threshold);
  const Pack<C> thresholds = broadcast(threshold);
  C *x1 = cells.bounds, *y1 = x1 + cells.count, *x2 = y1 + cells.count, *y2 = x2 + cells.count;
  for (int64_t c = 0; c < cells.count; ++c) x1[c] = y1[c] = C(INFINITY), x2[c] = y2[c] = C(-INFINITY);
  int64_t count = 0;
  for (int64_t i = 0; i < candidates.count; ++i) {
    const T* row = candidates.boxes + 4 * int64_t(candidates.rows ? candidates.rows[i] : i);
    const Box<C> box{C(row[0]), C(row[1]), C(row[2]), C(row[3])};
    const C area = pyrcnn::area(box), bound = screen.bound(area);
    const int64_t cell = cells.boxes.of[i];
    if (suppressed_in_cells<C>({on_all_lanes(box), broadcast(bound), broadcast(area), thresholds}, cells, cell, tiles))
      continue;
    keep(tiles + cells.boxes.first_tile[cell], int64_t(cells.boxes.kept[cell]++), box, bound);
    x1[cell] = lower(box.x1, x1[cell]),
    y1[cell] = lower(box.y1, y1[cell]);  // a NaN widens nothing, it overlaps nothing
    x2[cell] = higher(box.x2, x2[cell]), y2[cell] = higher(box.y2, y2[cell]);
    kept[count++] = uint32_t(i);
  }
  return count;
}

#define PYRCNN_INSTANTIATE(T)                                                                                      \
  template int64_t greedy(const Candidates<T>&, compute_t<T>, int64_t, Tile<compute_t<T>>*, uint32_t*);            \
  template int64_t greedy_grouped(const Candidates<T>&, const Groups&, compute_t<T>, int64_t, Tile<compute_t<T>>*, \
                                  uint32_t*);                                                                      \
  template int64_t greedy_in_cells(const Candidates<T>&, const Cells<compute_t<T>>&, compute_t<T>,                 \
                                   Tile<compute_t<T>>*, uint32_t*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)

}  // namespace pyrcnn::nms::PYRCNN_ISA
