// Compiled once per instruction set.
#include "common/simd/decode_rows.h"
#include "common/simd/planes.h"
#include "common/simd/twin.h"
#include "roi_detections.h"

namespace pyrcnn::roi_detections::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// Lane i of the result is the sum, or the greatest, of pack i's lanes. Halves are combined with halves, in the same
// order everywhere.
template <typename C, typename F> PYRCNN_HD Pack<C> fold(Pack<C>* packs, const F& both) {
  transpose<C>(packs);
  for (int half = lanes_of<C> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) packs[i] = both(packs[i], packs[i + half]);
  return packs[0];
}

// Sets row[i] to exp(row[i] - most) for i < columns, in whole packs, and returns the partial sums. `real` is 1 for the
// lanes of the last pack that belong to the row, and 0 for the others.
template <typename C> PYRCNN_HD Pack<C> exponentials(C* row, int64_t columns, C most, Pack<C> real) {
  constexpr int lanes = lanes_of<C>, kPacks = kSums / lanes, kStep = kPacks > 2 ? kPacks : 2;
  Pack<C> sums[kPacks] = {};
  int64_t c = 0;
  for (; c + kStep * lanes <= columns; c += kStep * lanes)
    for (int p = 0; p < kStep; p += 2) {
      C* at = row + c + p * lanes;
      const Twin<Pack<C>> e = exp_below(Twin<Pack<C>>{load(at), load(at + lanes)} - both(broadcast(most)));
      store(at, e.a), store(at + lanes, e.b);
      sums[p % kPacks] += e.a, sums[(p + 1) % kPacks] += e.b;
    }
  for (; c < columns; c += kSums)
    for (int p = 0; p < kPacks && c + p * lanes < columns; ++p) {
      C* at = row + c + p * lanes;
      Pack<C> e = exp_below(load(at) - broadcast(most));
      if (c + (p + 1) * lanes > columns) e *= real;
      store(at, e);
      sums[p] += e;
    }
  for (int half = kPacks / 2; half > 0; half /= 2)
    for (int p = 0; p < half; ++p) sums[p] += sums[p + half];
  return sums[0];
}

// Where the background is among the packs of a row. It is masked out when a pack is loaded: writing -inf into the row
// would make the load of that pack wait for the store.
template <typename C> struct Background {
  int64_t pack;  // begins here
  Mask<C> lane;

  PYRCNN_HD explicit Background(int64_t column) : pack(column / lanes_of<C> * lanes_of<C>), lane{} {
    for (int i = 0; i < lanes_of<C>; ++i) lane[i] = i == column - pack ? -1 : 0;
  }
};

// Copies a row in whole packs and returns the greatest of all logits but the background. The last pack is filled up
// with the logit from[filler], and `real` takes it out of the sum. Filling up with -inf would be slow: its exp is
// subnormal on the way to 0, which takes some processors as long as ten packs. `readable`: the row may be read to the
// end of its last pack.
template <typename T, typename C = compute_t<T>>
PYRCNN_HD Pack<C> copy_row(const T* from, int64_t columns, int64_t filler, bool readable, Pack<C> real,
                           const Background<C>& background, C* row) {
  constexpr int lanes = lanes_of<C>;
  Pack<C> most = broadcast(C(-INFINITY));
  int64_t c = 0;
  const auto take = [&](Pack<C> pack) __attribute__((always_inline)) {
    store(row + c, pack);
    const Pack<C> others = c == background.pack ? (background.lane ? broadcast(C(-INFINITY)) : pack) : pack;
    most = higher(others, most);
  };
  for (; c + lanes <= columns; c += lanes) take(load(from + c));
  if (c == columns) return most;
  if (readable) {
    take(real > Pack<C>{} ? load(from + c) : broadcast(C(from[filler])));
  } else {
    C end[lanes];
    for (int i = 0; i < lanes; ++i) end[i] = C(from[c + i < columns ? c + i : filler]);
    take(load(end));
  }
  return most;
}

// One bit for each of up to 64 columns from `row` on: is it greater than `bound`?
template <typename C> PYRCNN_HD uint64_t above(const C* row, int64_t columns, C bound) {
  constexpr int lanes = lanes_of<C>;
  uint64_t word = 0;
  for (int64_t c = 0; c < columns; c += lanes) word |= uint64_t(bits(load(row + c) > broadcast(bound))) << c;
  return columns < 64 ? word & ~(~uint64_t{0} << columns) : word;
}

// As many rows as a pack has lanes go through each step together. The result of a row is one lane of a pack, so that
// the steps of different rows do not wait for each other.
template <typename T>
int64_t scan(const T* logits, int64_t rows, int64_t columns, int64_t background, const Cut<compute_t<T>>& cut,
             uint32_t first, compute_t<T>* work, uint32_t* candidates, compute_t<T>* scores) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const int64_t whole = ceil_div(columns, lanes) * lanes;
  const Background<C> where(background);
  const Pack<C> none = broadcast(C(-INFINITY));
  if (columns == 1) return 0;
  const int64_t filler = background == 0 ? 1 : 0;
  Pack<C> real;
  for (int i = 0; i < lanes; ++i) real[i] = C(whole - lanes + i < columns ? 1 : 0);
  int64_t n = 0;
  for (int64_t r = 0; r < rows; r += lanes) {
    const int some = int(rows - r < lanes ? rows - r : lanes);
    const uint32_t all = (1u << some) - 1;
    C backgrounds[lanes] = {};
    Pack<C> folded[lanes];
    for (int i = 0; i < lanes; ++i) folded[i] = none;
    for (int i = 0; i < some; ++i) {
      const T* from = logits + (r + i) * columns;
      const bool readable = r + i + 1 < rows && columns >= lanes;  // the next row is there
      folded[i] = copy_row(from, columns, filler, readable, real, where, work + i * whole);
      backgrounds[i] = C(from[background]);
    }
    const Pack<C> foreground = fold<C>(folded, [](Pack<C> a, Pack<C> b) { return higher(b, a); });
    const Pack<C> most = higher(foreground, load(backgrounds));
    const uint32_t hopeful = all & bits(cut.hopeful(foreground, most));
    if (hopeful == 0) continue;

    for (int i = 0; i < lanes; ++i)
      folded[i] = hopeful >> i & 1 ? exponentials(work + i * whole, columns, C(most[i]), real) : Pack<C>{};
    const Pack<C> sum = fold<C>(folded, [](Pack<C> a, Pack<C> b) { return a + b; });
    const Pack<C> bound = cut.bound(sum);
    for (uint32_t row_word = hopeful & bits(exp_below(foreground - most) > bound); row_word != 0;
         row_word &= row_word - 1) {
      const int i = __builtin_ctz(row_word);
      const C* row = work + i * whole;
      for (int64_t c = 0; c < columns; c += 64) {
        uint64_t word = above(row + c, lower<int64_t>(columns - c, 64), C(bound[i]));
        if (background / 64 * 64 == c) word &= ~(uint64_t{1} << (background - c));
        for (; word != 0; word &= word - 1) {
          const int64_t at = c + __builtin_ctzll(word);
          const C score = row[at] / sum[i];
          candidates[n] = first + uint32_t((r + i) * (columns - 1) + at - (at > background));
          scores[n] = score;
          n += score > cut.threshold;  // all but a few: no branch
        }
      }
    }
  }
  return n;
}

template <typename C>
int64_t decode_clip_filter(const Head<C>& head, int64_t image, const ClipLimits<C>& limits, const uint32_t* candidates,
                           int64_t count, C* boxes, uint32_t* ranks) {
  const auto fetch = [&](int64_t i) { return anchor_delta(head, image, candidates[i]); };
  return decode_clip_filter_rows(count, fetch, head.cap, limits, boxes, ranks);
}

#define PYRCNN_INSTANTIATE(T)                                                                                   \
  template int64_t scan(const T*, int64_t, int64_t, int64_t, const Cut<compute_t<T>>&, uint32_t, compute_t<T>*, \
                        uint32_t*, compute_t<T>*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
template int64_t decode_clip_filter(const Head<float>&, int64_t, const ClipLimits<float>&, const uint32_t*, int64_t,
                                    float*, uint32_t*);
template int64_t decode_clip_filter(const Head<double>&, int64_t, const ClipLimits<double>&, const uint32_t*, int64_t,
                                    double*, uint32_t*);

}  // namespace pyrcnn::roi_detections::PYRCNN_ISA
