// Which cell a box goes to when many are suppressed: a grid by centre for each of three ranges of size, finer for
// smaller boxes. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <algorithm>
#include <vector>

#include "nms.h"

namespace pyrcnn::nms {

constexpr int64_t kCells = 4 * 4 + 8 * 8 + 12 * 12;
static_assert(kCells % kTile == 0);

template <typename T> std::vector<uint32_t> assign_cells(const Candidates<T>& candidates) {
  using C = compute_t<T>;
  const auto box_at = [&](int64_t i) {
    const T* row = candidates.boxes + 4 * int64_t(candidates.rows[i]);
    return Box<C>{C(row[0]), C(row[1]), C(row[2]), C(row[3])};
  };
  // A positive test, so that NaN and infinities leave the span alone.
  const auto extend = [](C value, C& low, C& high) {
    if (std::abs(value) < C(1e30)) low = std::min(low, value), high = std::max(high, value);
  };
  C left = C(1e30), right = -left, top = left, bottom = -left;
  for (int64_t i = 0; i < candidates.count; ++i) {
    const Box<C> b = box_at(i);
    extend((b.x1 + b.x2) / 2, left, right), extend((b.y1 + b.y2) / 2, top, bottom);
  }
  const C width = std::max(right - left, C(1e-30)), height = std::max(bottom - top, C(1e-30));
  const C extent = std::max(width, height);
  const auto step = [](C value, C low, C span, int cells) {
    const C at = (value - low) / span * C(cells);
    return at >= C(1) ? (at < C(cells) ? int(at) : cells - 1) : 0;  // NaN: 0
  };
  std::vector<uint32_t> cell(candidates.count);
  for (int64_t i = 0; i < candidates.count; ++i) {
    const Box<C> b = box_at(i);
    const C size = std::max(b.x2 - b.x1, b.y2 - b.y1);
    const int side = size > extent / 4 ? 4 : size > extent / 10 ? 8 : 12, first = side == 4 ? 0 : side == 8 ? 16 : 80;
    const int x = step((b.x1 + b.x2) / 2, left, width, side), y = step((b.y1 + b.y2) / 2, top, height, side);
    cell[i] = uint32_t(first + y * side + x);
  }
  return cell;
}

}  // namespace pyrcnn::nms
