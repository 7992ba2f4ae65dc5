// Eight numbers at a time, and bundles of 16 boxes stored coordinate by coordinate, so that one box is compared with
// eight others by the same instructions that compare it with one.
#pragma once
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "nms.h"

using Pack = float __attribute__((vector_size(32)));
using Mask = int32_t __attribute__((vector_size(32)));
constexpr int kLanes = 8, kBundle = 16;

inline Pack load(const float* from) {
  Pack pack;
  std::memcpy(&pack, from, sizeof pack);
  return pack;
}
inline Pack broadcast(float x) { return Pack{} + x; }
inline Pack lower(Pack a, Pack b) { return a < b ? a : b; }
inline Pack higher(Pack a, Pack b) { return a > b ? a : b; }

// One bit per lane.
inline uint32_t bits(Mask mask) {
#if defined(__AVX__)
  return uint32_t(_mm256_movemask_ps(__m256(mask)));
#else
  uint32_t word = 0;
  for (int i = 0; i < kLanes; ++i) word |= uint32_t(mask[i] & 1) << i;
  return word;
#endif
}

struct Bundle {
  float x1[kBundle], y1[kBundle], x2[kBundle], y2[kBundle], bound[kBundle];

  Bundle() { std::fill_n(x1, 5 * kBundle, NAN); }  // an empty place is NaN, which passes no test
  Box box(int i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
  void set(int i, const Box& b, float its_bound) {
    x1[i] = b.x1, y1[i] = b.y1, x2[i] = b.x2, y2[i] = b.y2, bound[i] = its_bound;
  }
};

// One bit per box of the bundle: does it pass the screen of step 3 with `box`?
inline uint32_t screened(const Bundle& bundle, const Box& box, float bound) {
  uint32_t word = 0;
  for (int at = 0; at < kBundle; at += kLanes) {
    const Pack w = lower(load(bundle.x2 + at), broadcast(box.x2)) - higher(load(bundle.x1 + at), broadcast(box.x1));
    const Pack h = lower(load(bundle.y2 + at), broadcast(box.y2)) - higher(load(bundle.y1 + at), broadcast(box.y1));
    const Pack inter = higher(w, Pack{}) * h;  // not above zero where the boxes are apart
    word |= bits(inter > load(bundle.bound + at) + bound) << at;
  }
  return word;
}

// Does a box of the bundle suppress `box`? Few pass the screen, so these are tried one by one.
inline bool suppressed_by(const Bundle& bundle, const Box& box, float bound, float threshold) {
  for (uint32_t word = screened(bundle, box, bound); word != 0; word &= word - 1) {
    const Box kept = bundle.box(__builtin_ctz(word));
    if (suppresses(kept, box, area(kept), area(box), threshold)) return true;
  }
  return false;
}

// Visits the boxes in the given order. Steps 4 and 5 differ in how they sort.
template <typename Index>
int64_t suppress_in_turn(const Box* boxes, const Index* order, int64_t n, float threshold, int64_t* kept) {
  const float factor = threshold / (1 + threshold) * (1 - 8e-6f);
  std::vector<Bundle> bundles;
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Box box = boxes[order[i]];
    const float bound = area(box) * factor;
    const auto suppresses_box = [&](const Bundle& bundle) { return suppressed_by(bundle, box, bound, threshold); };
    if (std::any_of(bundles.begin(), bundles.end(), suppresses_box)) continue;
    if (count % kBundle == 0) bundles.emplace_back();
    bundles.back().set(int(count % kBundle), box, bound);
    kept[count++] = order[i];
  }
  return count;
}
