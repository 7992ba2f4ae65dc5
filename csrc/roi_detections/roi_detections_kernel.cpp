// Compiled once per instruction set.
#include "../common/fit_rows.h"
#include "roi_detections.h"

namespace pyrcnn::roi_detections::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// row[i] = exp(row[i] - most) for i < padded; returns their sum.
template <typename C> PYRCNN_HD C exponentials(C* row, int64_t padded, C most) {
  constexpr int kPacks = kSums / lanes_of<C>;
  Pack<C> sums[kPacks] = {};
  for (int64_t c = 0; c < padded; c += kSums)
    for (int p = 0; p < kPacks; ++p) {
      C* at = row + c + p * lanes_of<C>;
      const Pack<C> e = exp_of(load(at) - broadcast(most));
      store(at, e);
      sums[p] += e;
    }
  C parts[kSums];
  for (int p = 0; p < kPacks; ++p) store(parts + p * lanes_of<C>, sums[p]);
  for (int half = kSums / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
}

template <typename C> PYRCNN_HD C greatest(const C* row, int64_t padded) {
  Pack<C> most = load(row);
  for (int64_t c = lanes_of<C>; c < padded; c += lanes_of<C>) most = higher(load(row + c), most);
  C result = most[0];
  for (int lane = 1; lane < lanes_of<C>; ++lane) result = higher(C(most[lane]), result);
  return result;
}

template <typename T>
int64_t scan(const T* logits, int64_t rows, int64_t columns, int64_t background, const Cut<compute_t<T>>& cut,
             uint32_t first, compute_t<T>* work, uint32_t* candidates, compute_t<T>* scores) {
  using C = compute_t<T>;
  const int64_t padded = ceil_div(columns, kSums) * kSums;
  int64_t n = 0;
  for (int64_t r = 0; r < rows; ++r, logits += columns, first += uint32_t(columns - 1)) {
    int64_t c = 0;
    for (; c + lanes_of<C> <= columns; c += lanes_of<C>) store(work + c, load(logits + c));
    for (; c < columns; ++c) work[c] = C(logits[c]);
    for (; c < padded; ++c) work[c] = C(-INFINITY);
    work[background] = C(-INFINITY);
    const C foreground = greatest(work, padded), most = higher(foreground, C(logits[background]));
    if (cut.hopeless(foreground, most)) continue;
    work[background] = C(logits[background]);
    const C sum = exponentials(work, padded, most);
    work[background] = C(-INFINITY);
    for (c = columns; c < padded; ++c) work[c] = C(-INFINITY);
    const Pack<C> bound = broadcast(cut.bound(sum));
    for (c = 0; c < padded; c += lanes_of<C>)
      for (uint32_t word = bits(load(work + c) > bound); word != 0; word &= word - 1) {
        const int64_t at = c + __builtin_ctz(word);
        const C score = work[at] / sum;
        if (!(score > cut.threshold)) continue;
        candidates[n] = first + uint32_t(at - (at > background));
        scores[n++] = score;
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
