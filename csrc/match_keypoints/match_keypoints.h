// match_keypoints: the keypoints (joints) of every detection. A joint is regressed from the detection's centre. It then
// moves to the best peak of its own heatmap if one is near enough (Zhou et al. 2019, section 4, with the rules of
// TensorFlow's CenterNet).
#pragma once
#include "common/math/box.h"
#include "common/math/exp.h"
#include "common/math/numbers.h"

namespace pyrcnn::match_keypoints {

// How candidates are ranked: by distance alone, or by score and distance.
enum class Ranking { kDistance, kScoreByDistance, kScoreByScaledDistance, kGaussian };

struct Strides {
  int64_t n, c, y, x;
};

PYRCNN_HD float root(float x) { return ::sqrtf(x); }
PYRCNN_HD double root(double x) { return ::sqrt(x); }

// The standard deviation of a box's Gaussian, from its radius. The radius has CenterNet's division by 2 where the
// quadratic formula has 2a.
template <typename C> PYRCNN_HD C half_root(C a, C b, C c) { return (root(b * b - C(4) * a * c) - b) / C(2); }
template <typename C> PYRCNN_HD C sigma_of(C height, C width) {
  const C overlap = C(0.7), sum = height + width, area = height * width;
  const C first = half_root(C(1), -sum, area * (C(1) - overlap) / (C(1) + overlap));
  const C second = half_root(C(4), C(-2) * sum, (C(1) - overlap) * area);
  const C third = half_root(C(4) * overlap, C(2) * overlap * sum, (overlap - C(1)) * area);
  return (C(2) * ::floor(higher(lower(lower(first, second), third), C(0))) + C(1)) / C(6);
}

template <typename C> struct Rules {
  Ranking ranking;
  C distance_offset, score_threshold, box_scale, max_distance, unmatched_score;
};

// Where one joint of one detection searches, in cells. P is C, a pack of it, or a pointer to an array.
template <typename P> struct Search {
  P y, x;           // the regressed joint
  Box<P> area;      // a candidate must lie in it
  P reach;          // a candidate must be as near as this
  P addend, sigma;  // rank = score / (distance + addend), or score * exp(-distance^2 / (2 sigma^2))
};

// The search around the centre (y, x) of a detection. The caller adds each joint's displacement and spread.
template <typename C> PYRCNN_HD Search<C> search(C y, C x, const Box<C>* box, const Rules<C>& rules) {
  constexpr C kFar = C(1e30);
  Search<C> s{y, x, {-kFar, -kFar, kFar, kFar}, kFar, rules.distance_offset, C(1)};
  if (box == nullptr) return s;
  const C h = box->y2 - box->y1, w = box->x2 - box->x1;
  const C center_y = (box->y1 + box->y2) / C(2), center_x = (box->x1 + box->x2) / C(2);
  const C half_h = h * rules.box_scale / C(2), half_w = w * rules.box_scale / C(2);
  s.area = {center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h};
  s.reach = rules.max_distance * higher(s.area.y2 - s.area.y1, s.area.x2 - s.area.x1);
  if (rules.ranking == Ranking::kScoreByScaledDistance) s.addend = rules.distance_offset * higher(h, w);
  if (rules.ranking == Ranking::kGaussian) s.sigma = sigma_of(h, w);
  return s;
}

template <typename P> PYRCNN_HD P rank(const Search<P>& s, Ranking ranking, P distance, P score) {
  if (ranking == Ranking::kDistance) return -distance;
  if (ranking == Ranking::kGaussian) return score * exp_of((P{} - 0.5f) / (s.sigma * s.sigma) * (distance * distance));
  return score / (distance + s.addend);
}

template <typename C> struct Joint {
  C y, x, score;
};

// The joint, given the best candidate, its `rank`, and the distance to the nearest candidate. A candidate whose score
// is below 0 means that there was none.
template <typename P, typename C>
PYRCNN_HD Joint<P> settle(const Search<P>& s, const Rules<C>& rules, Joint<P> candidate, P rank, P nearest) {
  if (rules.ranking == Ranking::kGaussian) candidate.score = rank;
  const auto accepted = (candidate.score >= P{}) & (candidate.score >= P{} + rules.score_threshold) &
                        (candidate.y >= s.area.y1) & (candidate.y <= s.area.y2) & (candidate.x >= s.area.x1) &
                        (candidate.x <= s.area.x2) & (nearest <= s.reach);
  return {accepted ? candidate.y : s.y, accepted ? candidate.x : s.x,
          accepted ? candidate.score : P{} + rules.unmatched_score};
}

// The tensors of one call.
template <typename T> struct Maps {
  using C = compute_t<T>;
  const int64_t *ys, *xs;        // detections [N, K]
  const T *regression, *offset;  // [N, 2J, H, W] and [N, 2J or 2, H, W], (y, x) pairs
  const C* boxes;                // [N, K, 4] in input pixels, or null
  Numbers image_sizes;           // [N, 2] (h, w), or null. Joints are clipped to it; outside it their score is 0
  const C* spreads;              // [J] or null
  const C* candidate_scores;     // [N, J, M], descending
  const int64_t *candidate_ys, *candidate_xs;
  C *keypoints, *scores;  // [N, K, J, 2] (x, y) and [N, K, J]
  Strides of_regression, of_offset;
  int64_t detections, joints, candidates, height, width;
  C stride;
  bool own_offsets;  // each joint has its own two offset channels
  Rules<C> rules;

  // The search around the centre of a detection.
  PYRCNN_HD Search<C> search_around(int64_t n, int64_t detection) const {
    const int64_t i = n * detections + detection;
    const C y = C(ys[i]), x = C(xs[i]);
    if (boxes == nullptr) return search<C>(y, x, nullptr, rules);
    const Box<C> box{boxes[4 * i] / stride, boxes[4 * i + 1] / stride, boxes[4 * i + 2] / stride,
                     boxes[4 * i + 3] / stride};
    return search(y, x, &box, rules);
  }
  // The regression of a detection's first joint. Null if the centre is outside the map; the displacement is 0 then.
  PYRCNN_HD const T* regression_of(int64_t n, int64_t detection) const {
    const int64_t i = n * detections + detection, y = ys[i], x = xs[i];
    if (!(y >= 0 && y < height && x >= 0 && x < width)) return nullptr;
    return regression + n * of_regression.n + y * of_regression.y + x * of_regression.x;
  }
  PYRCNN_HD C spread(int64_t joint) const { return spreads == nullptr ? C(1) : spreads[joint]; }
  PYRCNN_HD Search<C> search_of(int64_t n, int64_t detection, int64_t joint) const {
    Search<C> s = search_around(n, detection);
    const T* r = regression_of(n, detection);
    if (r != nullptr) s.y += C(r[2 * joint * of_regression.c]), s.x += C(r[(2 * joint + 1) * of_regression.c]);
    s.sigma = s.sigma * spread(joint);
    return s;
  }

  // The offset of a joint's candidate in a cell: y, and of_offset.c further x.
  PYRCNN_HD const T* offset_at(int64_t n, int64_t joint, int64_t y, int64_t x) const {
    return offset + n * of_offset.n + y * of_offset.y + x * of_offset.x + (own_offsets ? 2 * joint : 0) * of_offset.c;
  }

  // Candidate `m` of a joint. Its score is 0 if it is below the threshold.
  PYRCNN_HD Joint<C> candidate(int64_t n, int64_t joint, int64_t m) const {
    const int64_t i = (n * joints + joint) * candidates + m, y = candidate_ys[i], x = candidate_xs[i];
    const C score = candidate_scores[i];
    if (!(score >= rules.score_threshold && score > 0)) return {C(0), C(0), C(0)};
    const T* o = offset_at(n, joint, y, x);
    return {C(y) + C(o[0]), C(x) + C(o[of_offset.c]), score};
  }

  PYRCNN_HD void write(int64_t n, int64_t detection, int64_t joint, Joint<C> found) const {
    C y = found.y * stride, x = found.x * stride, score = found.score;
    if (image_sizes.data != nullptr) {
      const C h = image_sizes.at<C>(2 * n), w = image_sizes.at<C>(2 * n + 1);
      if (!(y >= 0 && y <= h && x >= 0 && x <= w)) score = C(0);
      y = clamp(y, C(0), h), x = clamp(x, C(0), w);
    }
    const int64_t to = (n * detections + detection) * joints + joint;
    keypoints[2 * to] = x, keypoints[2 * to + 1] = y, scores[to] = score;
  }
};

// What the joints of a detection share, for all detections of one image, in arrays padded to a multiple of 32.
template <typename T> struct Detections {
  const T** regressions;         // Maps::regression_of
  Search<compute_t<T>*> around;  // Maps::search_around
};

// The candidates of one joint in one image that reach the threshold, best first: their cells, scores, and pointers to
// their offsets as from Maps::offset_at.
template <typename T> struct Candidates {
  using C = compute_t<T>;
  C *ys, *xs, *scores;
  const T** offsets;
  int64_t count;
};

}  // namespace pyrcnn::match_keypoints
