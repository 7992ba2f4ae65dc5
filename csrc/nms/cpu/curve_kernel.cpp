// Compiled once per instruction set. The order of boxes along a Z-curve through their centres and sizes, so that boxes
// that are near each other and similar in size are neighbours; and bundles of boxes in such an order.
#include "common/simd/box_pack.h"
#include "common/simd/planes.h"
#include "bundles.h"

namespace pyrcnn::nms::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// Boxes that are copied before the first of them is loaded as a pack: a load that follows a narrower store to the same
// memory at once has to wait for it.
constexpr int64_t kBlock = 4 * kBundle;

// Copies the candidates number_of(0) to number_of(kBlock - 1) to `boxes` [kBlock, 4]; NaN for kNoBox.
template <typename T, typename F>
PYRCNN_HD void copy_block(const Candidates<T>& candidates, const F& number_of, compute_t<T>* boxes) {
  using C = compute_t<T>;
  for (int64_t i = 0; i < kBlock; ++i, boxes += 4) {
    const uint32_t number = number_of(i);
    if (number == kNoBox) {
      for (int side = 0; side < 4; ++side) boxes[side] = C(NAN);
      continue;
    }
    const T* row = candidates.boxes + 4 * int64_t(candidates.rows == nullptr ? number : candidates.rows[number]);
    if constexpr (sizeof(T) == sizeof(C)) {
      memcpy(boxes, row, 4 * sizeof(C));
    } else {
      for (int side = 0; side < 4; ++side) boxes[side] = C(row[side]);
    }
  }
}

// The kBlock candidates from `first` on, as [kBlock, 4]: in place if they are contiguous there, else copied to `room`.
template <typename T>
PYRCNN_HD const compute_t<T>* block_at(const Candidates<T>& candidates, int64_t first, compute_t<T>* room) {
  if constexpr (sizeof(T) == sizeof(compute_t<T>)) {
    if (candidates.rows == nullptr && first + kBlock <= candidates.count) return candidates.boxes + 4 * first;
  }
  const auto in_order = [&](int64_t i) __attribute__((always_inline)) {
    return first + i < candidates.count ? uint32_t(first + i) : kNoBox;
  };
  copy_block(candidates, in_order, room);
  return room;
}

// The least lane.
template <typename C> PYRCNN_HD C least(Pack<C> pack) {
  C result = pack[0];
  for (int i = 1; i < lanes_of<C>; ++i) result = lower(C(pack[i]), result);
  return result;
}

// The curve: positions along it are keys of four bits of x and of y, interleaved, and below these two of each size. All
// candidates are passed to extend(), then finish() is called, then key() works.
template <typename C> class Curve {
  using I = Mask<C>;
  CentreSize<Pack<C>> low_, minus_high_;
  Pack<C> across_, down_, widths_[3], heights_[3];

  // NaN and infinities fail both comparisons and change nothing.
  static PYRCNN_HD void extend(Pack<C> value, Pack<C>& low) {
    low = ((value < low) & (value > broadcast(C(-1e30)))) ? value : low;
  }
  // The three limits between four ranges of equal ratio from the least size (but no less than 1/256 of the most) to the
  // most.
  static PYRCNN_HD void divide(C low, C high, Pack<C>* limits) {
    const C ratio = clamp(low / high, C(1.0 / 256), C(1));
    const C half = C(__builtin_sqrt(ratio)), quarter = C(__builtin_sqrt(half));
    limits[0] = broadcast(high * half * quarter), limits[1] = broadcast(high * half);
    limits[2] = broadcast(high * quarter);
  }
  static PYRCNN_HD I step(Pack<C> at) {
    const Pack<C> inside = clamp(at - C(0.5), Pack<C>{}, broadcast(C(15)));                 // NaN: 0
    const I v = bit_cast<I>(inside + broadcast(C(sizeof(C) == 4 ? 0x1p23 : 0x1p52))) & 15;  // rounds to an integer
    const I spread = (v | v << 2) & 0x33;
    return (spread | spread << 1) & 0x55;
  }
  static PYRCNN_HD I size(Pack<C> at, const Pack<C>* limits) {
    const I v = -((at < limits[0]) + (at < limits[1]) + (at < limits[2]));
    return (v | v << 1) & 5;
  }

 public:
  PYRCNN_HD Curve() {
    const Pack<C> far = broadcast(C(1e30));
    low_ = minus_high_ = {far, far, far, far};
  }
  PYRCNN_HD void extend(const CentreSize<Pack<C>>& p) {
    extend(p.x, low_.x), extend(p.y, low_.y), extend(p.w, low_.w), extend(p.h, low_.h);
    extend(-p.x, minus_high_.x), extend(-p.y, minus_high_.y), extend(-p.w, minus_high_.w), extend(-p.h, minus_high_.h);
  }
  PYRCNN_HD void finish() {
    const C x = least<C>(low_.x), y = least<C>(low_.y);
    low_.x = broadcast(x), low_.y = broadcast(y);
    across_ = broadcast(C(16) / higher(-least<C>(minus_high_.x) - x, C(1e-30)));
    down_ = broadcast(C(16) / higher(-least<C>(minus_high_.y) - y, C(1e-30)));
    divide(least<C>(low_.w), -least<C>(minus_high_.w), widths_);
    divide(least<C>(low_.h), -least<C>(minus_high_.h), heights_);
  }
  PYRCNN_HD I key(const CentreSize<Pack<C>>& p) const {
    const I centre = step((p.x - low_.x) * across_) << 1 | step((p.y - low_.y) * down_);
    return centre << 4 | size(p.w, widths_) << 1 | size(p.h, heights_);
  }
};

// Sorts by counting, stably: sorted[position] = candidate, by ascending key, and keys[candidate] = position.
PYRCNN_HD void sort_keys(uint32_t* keys, int64_t count, uint32_t* bins, uint32_t* sorted) {
  // Clearing and adding up bins takes time too, so for few boxes the lower bits of their centres are dropped.
  const int dropped = count < kBins / 8 ? 4 : count < kBins ? 2 : 0;
  const int64_t used = kBins >> dropped;
  for (int64_t b = 0; b < used; ++b) bins[b] = 0;
  uint32_t* places = sorted;  // the place of each candidate in its bin, until the last loop
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t key = keys[i] >> (4 + dropped) << 4 | (keys[i] & 15);
    places[i] = bins[key]++, keys[i] = key;
  }
  uint32_t sum = 0;
  for (int64_t b = 0; b < used; ++b) {
    const uint32_t size = bins[b];
    bins[b] = sum, sum += size;
  }
  for (int64_t i = 0; i < count; ++i) keys[i] = bins[keys[i]] + places[i];
  for (int64_t i = 0; i < count; ++i) sorted[keys[i]] = uint32_t(i);
}

// Stores the boxes [kBundle, 4] as a bundle, and its bounds at `node`.
template <typename C>
PYRCNN_HD void fill(const C* boxes, const Screen<C>& screen, const Reach<C>& reach, BoxBundle<C>& bundle,
                    const BundleBounds<C>& bounds, int64_t node) {
  constexpr int lanes = lanes_of<C>;
  const Pack<C> infinity = broadcast(C(INFINITY));
  Pack<C> ends[kBoundRows];  // upper bounds are negated, so that all are minima
  for (int e = 0; e < kBoundRows; ++e) ends[e] = infinity;
#pragma GCC unroll 8
  for (int at = 0; at < kBundle; at += lanes) {
    Box<Pack<C>> box = load_boxes<C>(boxes + 4 * at);
    box = {box_order<C>(box.x1), box_order<C>(box.y1), box_order<C>(box.x2), box_order<C>(box.y2)};
    const CentreSize<Pack<C>> p = centre_size_of(box);
    const Mask<C> matters = interacts(p);
    store(bundle.x1 + at, box.x1), store(bundle.y1 + at, box.y1), store(bundle.x2 + at, box.x2),
        store(bundle.y2 + at, box.y2);
    store(bundle.bound + at, matters ? screen.bound(p.w * p.h) : broadcast(C(NAN)));
    CentreSize<Pack<C>> low, high;
    reach.range(p, low, high);
    const auto lowest = [&](Pack<C> v) __attribute__((always_inline)) { return matters ? v : infinity; };
    const Pack<C> values[kBoundRows] = {
        lowest(p.x),  lowest(p.y),  lowest(p.w),  lowest(p.h),   // in the order of BundleBounds
        lowest(-p.x), lowest(-p.y), lowest(-p.w), lowest(-p.h),  //
        low.x,        low.y,        low.w,        low.h,         //
        -high.x,      -high.y,      -high.w,      -high.h};
    for (int e = 0; e < kBoundRows; ++e) ends[e] = lower(values[e], ends[e]);
  }
  for (int e = 0; e < kBoundRows; e += lanes) {
    transpose<C>(ends + e);
    for (int half = lanes / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) ends[e + i] = lower(ends[e + i], ends[e + i + half]);
    for (int i = 0; i < lanes; ++i) bounds.rows[(e + i) * bounds.nodes + node] = (e + i) & 4 ? -ends[e][i] : ends[e][i];
  }
}

template <typename T>
void sort_along_curve(const Candidates<T>& candidates, uint32_t* keys, uint32_t* bins, uint32_t* sorted) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const int64_t count = candidates.count;
  C room[4 * kBlock];
  Curve<C> curve;
  for (int64_t first = 0; first < count; first += kBlock) {
    const C* boxes = block_at(candidates, first, room);
    for (int i = 0; i < kBlock; i += lanes) curve.extend(centre_size_of(load_boxes<C>(boxes + 4 * i)));
  }
  curve.finish();
  for (int64_t first = 0; first < count; first += kBlock) {
    const C* boxes = block_at(candidates, first, room);
    for (int64_t i = 0; i < kBlock && first + i < count; i += lanes) {
      const Mask<C> key = box_order<C>(curve.key(centre_size_of(load_boxes<C>(boxes + 4 * i))));
      if constexpr (sizeof(C) == 4) {
        memcpy(keys + first + i, &key, sizeof key);
      } else {
        for (int lane = 0; lane < lanes; ++lane) keys[first + i + lane] = uint32_t(key[lane]);
      }
    }
  }
  sort_keys(keys, count, bins, sorted);
}

template <typename T>
void fill_bundles(const Candidates<T>& candidates, compute_t<T> threshold, int64_t first, int64_t last,
                  const BundledBoxes<compute_t<T>>& to) {
  using C = compute_t<T>;
  C boxes[4 * kBlock];
  const Screen<C> screen(threshold);
  const Reach<C> reach(threshold);
  const int64_t end = last * kBundle;
  for (int64_t t = first; t < last; ++t) {
    const int64_t at = t * kBundle, in_block = (at - first * kBundle) % kBlock;
    if (in_block == 0) {
      const auto number_of = [&](int64_t i)
                                 __attribute__((always_inline)) { return at + i < end ? to.numbers[at + i] : kNoBox; };
      copy_block(candidates, number_of, boxes);
    }
    fill(boxes + 4 * in_block, screen, reach, to.bundles[t], to.bounds, t);
  }
}

#define PYRCNN_INSTANTIATE(T)                                                            \
  template void sort_along_curve(const Candidates<T>&, uint32_t*, uint32_t*, uint32_t*); \
  template void fill_bundles(const Candidates<T>&, compute_t<T>, int64_t, int64_t, const BundledBoxes<compute_t<T>>&);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)

}  // namespace pyrcnn::nms::PYRCNN_ISA
