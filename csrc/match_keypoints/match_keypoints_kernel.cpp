// Compiled once per instruction set.
#include "../common/pack.h"
#include "match_keypoints.h"

namespace pyrcnn::match_keypoints::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// In NCHW every number of a cell lies in a line of its own, mostly outside the caches: ask for it some steps ahead.
constexpr int64_t kAhead = 8;

template <typename T>
PYRCNN_HD void expect_regression(const Maps<T>& maps, int64_t n, int64_t detection, int64_t joint) {
  if (detection >= maps.detections) return;
  const int64_t i = n * maps.detections + detection, y = maps.ys[i], x = maps.xs[i];
  if (!(y >= 0 && y < maps.height && x >= 0 && x < maps.width)) return;
  const Strides& s = maps.of_regression;
  const T* r = maps.regression + n * s.n + y * s.y + x * s.x + 2 * joint * s.c;
  __builtin_prefetch(r), __builtin_prefetch(r + s.c);
}
template <typename T> PYRCNN_HD void expect_offset(const Maps<T>& maps, int64_t n, int64_t joint, int64_t m) {
  if (m >= maps.candidates) return;
  const int64_t i = (n * maps.joints + joint) * maps.candidates + m;
  const Strides& s = maps.of_offset;
  const T* o = maps.offset + n * s.n + maps.candidate_ys[i] * s.y + maps.candidate_xs[i] * s.x +
               (maps.own_offsets ? 2 * joint : 0) * s.c;
  __builtin_prefetch(o), __builtin_prefetch(o + s.c);
}

template <typename T> void match(const Maps<T>& maps, int64_t n, int64_t joint, compute_t<T>* scratch) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  C *ys = scratch, *xs = ys + maps.candidates + 16, *scores = xs + maps.candidates + 16;
  C* distances = scores + maps.candidates + 16;
  int64_t count = 0;
  for (int64_t m = 0; m < maps.candidates; ++m) {  // in descending order: the first that does not count is the end
    expect_offset(maps, n, joint, m + kAhead);
    const Joint<C> candidate = maps.candidate(n, joint, m);
    if (!(candidate.score > 0)) break;
    ys[count] = candidate.y, xs[count] = candidate.x, scores[count++] = candidate.score;
  }
  const int64_t padded = ceil_div(count, lanes) * lanes;
  for (int64_t m = count; m < padded; ++m) ys[m] = xs[m] = C(NAN), scores[m] = C(0);  // never ranked, never nearest

  const Ranking ranking = maps.rules.ranking;
  for (int64_t detection = 0; detection < maps.detections; ++detection) {
    expect_regression(maps, n, detection + kAhead, joint);
    const Search<C> s = maps.search_of(n, detection, joint);
    for (int64_t m = 0; m < padded; ++m) {
      const C dy = ys[m] - s.y, dx = xs[m] - s.x;
      distances[m] = root(dy * dy + dx * dx);
    }
    Pack<C> nearest = broadcast(C(INFINITY)), best = broadcast(C(-INFINITY)), at{}, index{};
    for (int lane = 0; lane < lanes; ++lane) index[lane] = C(lane);
    for (int64_t m = 0; m < padded; m += lanes, index += C(lanes)) {
      const Pack<C> distance = load(distances + m);
      nearest = distance < nearest ? distance : nearest;
      Pack<C> ranks = -distance;
      if (ranking == Ranking::kGaussian)
        for (int lane = 0; lane < lanes; ++lane) ranks[lane] = rank(s, ranking, distance[lane], scores[m + lane]);
      else if (ranking != Ranking::kDistance) ranks = load(scores + m) / (distance + s.addend);
      at = ranks > best ? index : at;
      best = ranks > best ? ranks : best;
    }
    C top = C(-INFINITY), first = C(0), near = C(INFINITY);
    for (int lane = 0; lane < lanes; ++lane) {  // among equals the first candidate
      if (best[lane] > top || (best[lane] == top && at[lane] < first)) top = best[lane], first = at[lane];
      near = lower(nearest[lane], near);
    }
    Joint<C> found{C(0), C(0), C(-1)};
    const int64_t m = int64_t(first);
    if (top > C(-INFINITY)) found = {ys[m], xs[m], scores[m]};
    maps.write(n, detection, joint, settle(s, maps.rules, found, top, near));
  }
}

template void match(const Maps<float>&, int64_t, int64_t, float*);
template void match(const Maps<double>&, int64_t, int64_t, double*);
template void match(const Maps<Half>&, int64_t, int64_t, float*);
template void match(const Maps<BFloat16>&, int64_t, int64_t, float*);

}  // namespace pyrcnn::match_keypoints::PYRCNN_ISA
