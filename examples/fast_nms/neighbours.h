// Which boxes can suppress a box at all, and an order in which such boxes are neighbours.
//
// If the IoU of two boxes of widths w and v exceeds t, so does the overlap of their intervals on each axis. Then
// |s' - s| and |d' - d| < (1 / t - 1) min(w, v), where s = x1 + x2 is twice the centre and d = x2 - x1 the width. So
// all suppressors of a box lie in a range of four coordinates around it.
#pragma once
#include "simd.h"

struct Point {  // a box as four coordinates: twice the centre, and the size
  float at[4];
};
inline Point point_of(const Box& b) { return {{b.x1 + b.x2, b.y1 + b.y2, b.x2 - b.x1, b.y2 - b.y1}}; }

// A box without area neither suppresses nor is suppressed.
inline bool interacts(const Point& p) { return p.at[2] > 0 && p.at[3] > 0 && p.at[2] * p.at[3] < INFINITY; }

struct Range {
  Point low, high;
};

// The range of the suppressors of a box, wider than all rounding errors.
inline Range range_of(const Point& p, float threshold) {
  const float share = std::max((1 + 1e-5f) / threshold - 1, 1e-5f);
  Range range;
  for (int c = 0; c < 4; ++c) {
    const float size = p.at[2 + c % 2], reach = (size * share + (std::abs(p.at[c % 2]) + size) * 1e-6f) * 1.001f;
    range.low.at[c] = p.at[c] - reach, range.high.at[c] = p.at[c] + reach;
  }
  return range;
}

// The lowest and highest coordinates of the boxes of each bundle, coordinate by coordinate.
struct Bounds {
  std::vector<float> low[4], high[4];

  explicit Bounds(int64_t bundles) {
    const int64_t padded = (bundles + kLanes - 1) / kLanes * kLanes;
    for (int c = 0; c < 4; ++c) low[c].assign(padded, INFINITY), high[c].assign(padded, -INFINITY);
  }
  int64_t size() const { return int64_t(low[0].size()); }
  void extend(int64_t bundle, const Point& from, const Point& to) {
    for (int c = 0; c < 4; ++c) {
      low[c][bundle] = std::min(low[c][bundle], from.at[c]);
      high[c][bundle] = std::max(high[c][bundle], to.at[c]);
    }
  }
  // One bit for each of the eight bundles from `first` on: do its bounds meet the range?
  uint32_t meet(int64_t first, const Range& range) const {
    Mask all = load(&low[0][first]) <= broadcast(range.high.at[0]);
    for (int c = 0; c < 4; ++c) {
      if (c > 0) all &= load(&low[c][first]) <= broadcast(range.high.at[c]);
      all &= load(&high[c][first]) >= broadcast(range.low.at[c]);
    }
    return bits(all);
  }
};

// The numbers of the boxes along a Z-curve: keys of four bits of x and of y, interleaved, and two bits of each size
// below. A counting sort orders the 4096 keys. Any order gives the same boxes; this one brings similar ones together.
inline std::vector<uint32_t> along_curve(const Box* boxes, int64_t n) {
  float low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY}, largest[2] = {1e-30f, 1e-30f};
  for (int64_t i = 0; i < n; ++i) {
    const Point p = point_of(boxes[i]);
    for (int c = 0; c < 2; ++c) {
      low[c] = std::min(low[c], p.at[c]), high[c] = std::max(high[c], p.at[c]);
      largest[c] = std::max(largest[c], p.at[2 + c]);
    }
  }
  std::vector<uint16_t> keys(n);
  std::vector<uint32_t> starts(4097);
  for (int64_t i = 0; i < n; ++i) {
    const Point p = point_of(boxes[i]);
    uint32_t key = 0;
    for (int c = 0; c < 2; ++c) {
      const float extent = std::max(high[c] - low[c], 1e-30f), size = p.at[2 + c] / largest[c];
      const uint32_t step = uint32_t(std::clamp((p.at[c] - low[c]) / extent * 16, 0.0f, 15.0f));
      for (int bit = 0; bit < 4; ++bit) key |= (step >> bit & 1) << (4 + 2 * bit + c);
      key |= ((size > 0.125f) + (size > 0.25f) + uint32_t(size > 0.5f)) << (2 * c);
    }
    keys[i] = uint16_t(key), ++starts[key + 1];
  }
  for (int key = 0; key < 4096; ++key) starts[key + 1] += starts[key];
  std::vector<uint32_t> order(n);
  for (int64_t i = 0; i < n; ++i) order[starts[keys[i]]++] = uint32_t(i);
  return order;
}
