// Compiled once per instruction set.
#include "../common/fit_rows.h"
#include "../common/tile.h"
#include "roi_detections.h"

namespace pyrcnn::roi_detections::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// Lane i of the result is the sum of pack i's lanes, or their greatest, taken half by half: in one order everywhere.
template <typename C, typename F> PYRCNN_HD Pack<C> fold(Pack<C>* packs, const F& both) {
  transpose<C>(packs);
  for (int half = lanes_of<C> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) packs[i] = both(packs[i], packs[i + half]);
  return packs[0];
}

// row[i] = exp(row[i] - most) for i < columns, in whole packs; returns their partial sums, of the last kSums times
// `real`.
template <typename C> PYRCNN_HD Pack<C> exponentials(C* row, int64_t columns, int64_t padded, C most, const C* real) {
  constexpr int lanes = lanes_of<C>, kPacks = kSums / lanes;
  Pack<C> sums[kPacks] = {};
  for (int64_t c = 0; c < padded; c += kSums) {
    const bool last = c + kSums == padded;
    for (int p = 0; p < kPacks; ++p) {
      C* at = row + c + p * lanes;
      if (last && c + p * lanes >= columns) break;  // nothing but filler
      Pack<C> e = exp_below(load(at) - broadcast(most));
      if (last) e *= load(real + p * lanes);
      store(at, e);
      sums[p] += e;
    }
  }
  for (int half = kPacks / 2; half > 0; half /= 2)
    for (int p = 0; p < half; ++p) sums[p] += sums[p + half];
  return sums[0];
}

// Where the background stands among a row's packs: told by a mask, for a number that is written into a row makes the
// next pack that is read there wait.
template <typename C> struct Background {
  int64_t pack;  // begins here
  uint32_t bit;
  Mask<C> lane;

  PYRCNN_HD explicit Background(int64_t column)
      : pack(column / lanes_of<C> * lanes_of<C>), bit(1u << (column - pack)), lane{} {
    for (int i = 0; i < lanes_of<C>; ++i) lane[i] = i == column - pack ? -1 : 0;
  }
};

// The greatest of the others.
template <typename C> PYRCNN_HD Pack<C> greatest(const C* row, int64_t whole, const Background<C>& background) {
  const auto others = [&](int64_t c) __attribute__((always_inline)) {
    const Pack<C> pack = load(row + c);
    return c == background.pack ? (background.lane ? broadcast(C(-INFINITY)) : pack) : pack;
  };
  Pack<C> most = others(0);
  for (int64_t c = lanes_of<C>; c < whole; c += lanes_of<C>) most = higher(others(c), most);
  return most;
}

// As many rows as a pack has lanes go through each step together: what a row ends up with is a lane of a pack, and no
// step waits for the one before.
template <typename T>
int64_t scan(const T* logits, int64_t rows, int64_t columns, int64_t background, const Cut<compute_t<T>>& cut,
             uint32_t first, compute_t<T>* work, uint32_t* candidates, compute_t<T>* scores) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  const int64_t padded = ceil_div(columns, kSums) * kSums, whole = ceil_div(columns, lanes) * lanes;
  const Background<C> where(background);
  const Pack<C> none = broadcast(C(-INFINITY));
  if (columns == 1) return 0;
  // Rows are filled up with a number of their own, whose exp is then taken out again: that of -inf would be subnormal
  // on the way to 0, which costs some machines as much as ten packs.
  const int64_t filler = background == 0 ? 1 : 0;
  C real[kSums];
  for (int64_t i = 0; i < kSums; ++i) real[i] = C(padded - kSums + i < columns ? 1 : 0);
  int64_t n = 0;
  for (int64_t r = 0; r < rows; r += lanes) {
    const int some = int(rows - r < lanes ? rows - r : lanes);
    const uint32_t all = (1u << some) - 1;
    C backgrounds[lanes] = {};
    for (int i = 0; i < some; ++i) {
      const T* from = logits + (r + i) * columns;
      C* row = work + i * padded;
      int64_t c = 0;
      for (; c + lanes <= columns; c += lanes) store(row + c, load(from + c));
      if (r + i + 1 < rows && columns >= lanes && c < columns) {  // the next row is there to be read
        const Mask<C> mine = load(real + (c - (padded - kSums))) > Pack<C>{};
        store(row + c, mine ? load(from + c) : broadcast(C(from[filler])));
      } else {
        for (; c < columns; ++c) row[c] = C(from[c]);
        for (; c < whole; ++c) row[c] = C(from[filler]);
      }
      backgrounds[i] = C(from[background]);
    }
    Pack<C> folded[lanes];
    for (int i = 0; i < lanes; ++i) folded[i] = i < some ? greatest(work + i * padded, whole, where) : none;
    const Pack<C> foreground = fold<C>(folded, [](Pack<C> a, Pack<C> b) { return higher(b, a); });
    const Pack<C> most = higher(foreground, load(backgrounds));
    const uint32_t hopeful = all & bits(cut.hopeful(foreground, most));
    if (hopeful == 0) continue;

    for (int i = 0; i < lanes; ++i)
      folded[i] = hopeful >> i & 1 ? exponentials(work + i * padded, columns, padded, C(most[i]), real) : Pack<C>{};
    const Pack<C> sum = fold<C>(folded, [](Pack<C> a, Pack<C> b) { return a + b; });
    const Pack<C> bound = cut.bound(sum);
    for (uint32_t row_word = hopeful & bits(exp_below(foreground - most) > bound); row_word != 0;
         row_word &= row_word - 1) {
      const int i = __builtin_ctz(row_word);
      const C* row = work + i * padded;
      for (int64_t c = 0; c < whole; c += lanes) {
        uint32_t word = bits(load(row + c) > broadcast(C(bound[i])));
        if (c == where.pack) word &= ~where.bit;
        if (c + lanes > columns) word &= ~(~0u << (columns - c));
        for (; word != 0; word &= word - 1) {
          const int64_t at = c + __builtin_ctz(word);
          const C score = row[at] / sum[i];
          if (!(score > cut.threshold)) continue;
          candidates[n] = first + uint32_t((r + i) * (columns - 1) + at - (at > background));
          scores[n++] = score;
        }
      }
    }
  }
  return n;
}

template <typename C>
int64_t decode_clip_filter(const Head<C>& head, int64_t image, const Window<C>& window, const uint32_t* candidates,
                           int64_t count, C* boxes, uint32_t* ranks) {
  const auto fetch = [&](int64_t i) { return anchor_delta(head, image, candidates[i]); };
  return decode_and_fit(count, fetch, head.cap, window, boxes, ranks);
}

#define PYRCNN_INSTANTIATE(T)                                                                                   \
  template int64_t scan(const T*, int64_t, int64_t, int64_t, const Cut<compute_t<T>>&, uint32_t, compute_t<T>*, \
                        uint32_t*, compute_t<T>*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)
template int64_t decode_clip_filter(const Head<float>&, int64_t, const Window<float>&, const uint32_t*, int64_t, float*,
                                    uint32_t*);
template int64_t decode_clip_filter(const Head<double>&, int64_t, const Window<double>&, const uint32_t*, int64_t,
                                    double*, uint32_t*);

}  // namespace pyrcnn::roi_detections::PYRCNN_ISA
