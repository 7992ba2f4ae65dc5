// Which boxes suppress each other, found for all boxes at once. Boxes that are near and alike share a tile, and most
// tiles are too far apart, or too different in size, for any of their pairs to matter (nearby.h). Nothing here waits
// for anything else, as a box does that is held against those kept before it; which boxes stay then follows from the
// pairs in one walk. That is faster where most boxes stay, and slower where most do not.
#pragma once
#include "nearby.h"

namespace pyrcnn::nms {

// What the boxes of each tile span in x, y, w and h, and what their windows span: a row of `nodes` numbers, a multiple
// of kTile, for each lower and upper end. NaN beyond the last tile, which nothing meets.
constexpr int kExtents = 16;
template <typename C> struct Extents {
  C* rows;
  int64_t nodes;
  PYRCNN_HD C* low(int coordinate) const { return rows + coordinate * nodes; }
  PYRCNN_HD C* high(int coordinate) const { return rows + (4 + coordinate) * nodes; }
  PYRCNN_HD C* window_low(int coordinate) const { return rows + (8 + coordinate) * nodes; }
  PYRCNN_HD C* window_high(int coordinate) const { return rows + (12 + coordinate) * nodes; }
};

// All candidates, in tiles along a curve through places and sizes; each group has tiles of its own.
template <typename C> struct Strewn {
  int64_t tile_count;
  const uint32_t* ranks;  // [tile_count, kTile]: which candidate; kNobody where the tile holds NaN
  Tile<C>* tiles;
  Extents<C> extents;
};

constexpr int64_t kBins = 4096;  // as many as a key of strew() has values
constexpr uint32_t kNobody = UINT32_MAX;
constexpr int64_t kSpare = 8;  // numbers past the end of a list that may be written

// If the candidate `better` is kept, `worse`, a higher number, is suppressed.
struct Edge {
  uint32_t better, worse;
};

}  // namespace pyrcnn::nms
