// Compiled once per instruction set.
#include "common/simd/box_pack.h"
#include "box_iou.h"

namespace pyrcnn::box_iou::PYRCNN_ISA {

using namespace pyrcnn::PYRCNN_ISA;

constexpr int kTile = 512;  // boxes of the second list whose packs stay in the L1 cache

template <typename T> struct RoundedPack {
  using P = Pack<compute_t<T>>;
  PYRCNN_HD Overlap<P> operator()(const Overlap<P>& o) const {
    if constexpr (sizeof(T) == sizeof(compute_t<T>)) {
      return o;
    } else {
      return {round(o.w), round(o.h)};
    }
  }
  PYRCNN_HD static P round(P x) {
    T stored[lanes_of<compute_t<T>>];
    store(stored, x);
    return load(stored);
  }
};

template <typename C> PYRCNN_HD Box<Pack<C>> broadcast_box(const Box<C>& b) {
  return {broadcast(b.x1), broadcast(b.y1), broadcast(b.x2), broadcast(b.y2)};
}

// Up to kTile boxes of the second list as packs. Boxes of zeros fill the last pack.
template <typename C> struct Tile {
  static constexpr int lanes = lanes_of<C>;
  Box<Pack<C>> boxes[kTile / lanes];
  Pack<C> areas[kTile / lanes];
  int whole, rest;  // full packs, and boxes in the pack after them

  template <typename T> PYRCNN_HD void load(const T* from, int64_t count) {
    whole = int(count) / lanes, rest = int(count) % lanes;
    for (int p = 0; p < whole; ++p) set(p, load_boxes<C>(from + 4 * lanes * p));
    if (rest == 0) return;
    T last[4 * lanes];
    for (int i = 0; i < 4 * lanes; ++i) last[i] = i < 4 * rest ? from[4 * lanes * whole + i] : T(0.0f);
    set(whole, load_boxes<C>(last));
  }
  PYRCNN_HD void set(int p, const Box<Pack<C>>& b) {
    boxes[p] = {box_order<C>(b.x1), box_order<C>(b.y1), box_order<C>(b.x2), box_order<C>(b.y2)};
    areas[p] = area(boxes[p]);
  }
};

// Computes rows [begin, end) of the result, counted over all images.
template <typename T> void rows(const Forward<T>& job, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const auto [images, n, m] = job.sizes;
  Tile<C> tile;
  for (int64_t image = begin / n; begin < end; ++image) {
    const int64_t image_end = lower((image + 1) * n, end);
    for (int64_t column = 0; column < m; column += kTile) {
      tile.load(job.second + 4 * (image * m + column), lower(m - column, int64_t{kTile}));
      for (int64_t row = begin; row < image_end; ++row) {
        const Box<Pack<C>> a = broadcast_box(box_at(job.first, row));
        const Pack<C> area_a = area(a);
        const auto iou = [&](int p) { return value(a, tile.boxes[p], area_a, tile.areas[p], RoundedPack<T>{}); };
        C* to = job.ious + row * m + column;
        for (int p = 0; p < tile.whole; ++p, to += lanes) store(to, iou(p));
        if (tile.rest) {
          const Pack<C> last = iou(tile.whole);
          memcpy(to, &last, size_t(tile.rest) * sizeof(C));
        }
      }
    }
    begin = image_end;
  }
}

// Computes the gradients to boxes [begin, end) of the second lists, counted over all images.
template <typename T> void columns(const Backward<T>& job, int64_t begin, int64_t end) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const auto [images, n, m] = job.sizes;
  Tile<C> tile;
  Box<Pack<C>> sums[kTile / lanes];
  for (int64_t i = begin, count; i < end; i += count) {
    const int64_t image = i / m, column = i - image * m;
    count = lower(lower(m - column, end - i), int64_t{kTile});
    tile.load(job.second + 4 * i, count);
    for (Box<Pack<C>>& sum : sums) sum = broadcast_box(Box<C>{C(0), C(0), C(0), C(0)});
    for (int64_t row = image * n; row < (image + 1) * n; ++row) {
      const Box<Pack<C>> a = broadcast_box(box_at(job.first, row));
      const Pack<C> area_a = area(a);
      const auto add = [&](int p, Pack<C> grad) {
        const Box<Pack<C>> d = gradient(a, tile.boxes[p], area_a, tile.areas[p], grad, RoundedPack<T>{});
        Box<Pack<C>>& sum = sums[p];
        sum = {sum.x1 + d.x1, sum.y1 + d.y1, sum.x2 + d.x2, sum.y2 + d.y2};
      };
      const C* grad = job.grad + row * m + column;
      for (int p = 0; p < tile.whole; ++p, grad += lanes) add(p, load(grad));
      if (tile.rest) {
        Pack<C> last{};
        memcpy(&last, grad, size_t(tile.rest) * sizeof(C));
        add(tile.whole, last);
      }
    }
    T* to = job.to_second + 4 * i;
    for (int b = 0; b < int(count); ++b, to += 4) {
      const Box<Pack<C>>& sum = sums[b / lanes];
      const int lane = b % lanes;
      to[0] = T(sum.x1[lane]), to[1] = T(sum.y1[lane]), to[2] = T(sum.x2[lane]), to[3] = T(sum.y2[lane]);
    }
  }
}

template void rows(const Forward<float>&, int64_t, int64_t);
template void rows(const Forward<double>&, int64_t, int64_t);
template void rows(const Forward<Half>&, int64_t, int64_t);
template void rows(const Forward<BFloat16>&, int64_t, int64_t);
template void columns(const Backward<float>&, int64_t, int64_t);
template void columns(const Backward<double>&, int64_t, int64_t);
template void columns(const Backward<Half>&, int64_t, int64_t);
template void columns(const Backward<BFloat16>&, int64_t, int64_t);

}  // namespace pyrcnn::box_iou::PYRCNN_ISA
