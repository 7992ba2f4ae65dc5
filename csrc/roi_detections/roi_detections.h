// roi_detections: the output of a RoI head, and the decoding of one of its boxes. A candidate is a row (a proposal)
// with a class; its number is row * classes + class. Equal scores go by this number.
#pragma once
#include "common/math/clip_and_filter.h"
#include "common/math/numbers.h"

namespace pyrcnn::roi_detections {

template <typename C> struct Head {
  Numbers deltas;     // [images, rows, delta_width]
  Numbers proposals;  // [images, rows, 4]
  int64_t rows, classes, delta_width;
  int64_t delta_first, delta_step;  // the deltas of class c begin at delta_first + c * delta_step
  C weights[4];
  C cap;
};

template <typename C> PYRCNN_HD AnchorDelta<C> anchor_delta(const Head<C>& head, int64_t image, uint32_t candidate) {
  const uint32_t classes = uint32_t(head.classes);
  const int64_t row = image * head.rows + candidate / classes;
  const int64_t d = row * head.delta_width + head.delta_first + head.delta_step * int64_t(candidate % classes);
  const Numbers &p = head.proposals, &deltas = head.deltas;
  return {{p.at<C>(4 * row), p.at<C>(4 * row + 1), p.at<C>(4 * row + 2), p.at<C>(4 * row + 3)},
          {deltas.at<C>(d) / head.weights[0], deltas.at<C>(d + 1) / head.weights[1],
           deltas.at<C>(d + 2) / head.weights[2], deltas.at<C>(d + 3) / head.weights[3]}};
}

// Which candidates of a row may exceed the score threshold. With m the greatest logit and s the sum of exp(logit - m),
// which is at least 1, a score above the threshold needs logit > m + log(threshold). Rows in which no class reaches
// that need no exp at all.
template <typename C> struct Cut {
  C threshold, log_threshold;
  // Can a row with these greatest logits have a score above the threshold? P is C or a pack of it.
  template <typename P> PYRCNN_HD auto hopeful(P foreground, P most) const {
    return (foreground > most + (log_threshold - C(0.001))) | (P{} + threshold <= P{});
  }
  // Every exp(logit - m) whose score exceeds the threshold is greater than this.
  template <typename P> PYRCNN_HD P bound(P sum) const {
    return sum * threshold * (threshold > C{} ? C(0.999999) : C(1.000001));
  }
};

// A row has 16 partial sums, which are added in the same order on every machine.
constexpr int kSums = 16;

}  // namespace pyrcnn::roi_detections
