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

// The candidates of one joint, filled up to whole packs with some that are never ranked and never nearest.
template <typename C> struct Candidates {
  C *ys, *xs, *scores, *squares;  // squares: room for one number per candidate
  int64_t padded;

  PYRCNN_HD Pack<C> squared_distance(const Search<C>& s, int64_t m) const {
    const Pack<C> dy = load(ys + m) - s.y, dx = load(xs + m) - s.x;
    return dy * dy + dx * dx;
  }
};
template <typename C> struct Best {
  C rank, nearest;
  int64_t at;  // among equals the first
};

template <typename C> PYRCNN_HD C least(Pack<C> pack) {
  C result = pack[0];
  for (int lane = 1; lane < lanes_of<C>; ++lane) result = lower(C(pack[lane]), result);
  return result;
}

// By distance alone. The root never swaps two distances but may make them equal, so the first candidate is looked for
// among those whose squares are as good as the least.
template <typename C> PYRCNN_HD Best<C> closest(const Candidates<C>& all, const Search<C>& s) {
  constexpr int lanes = lanes_of<C>;
  Pack<C> low = broadcast(C(INFINITY));
  for (int64_t m = 0; m < all.padded; m += lanes) {
    const Pack<C> square = all.squared_distance(s, m);
    store(all.squares + m, square);
    low = lower(square, low);
  }
  const C square = least<C>(low), nearest = root(square);
  if (!(square < C(INFINITY))) return {C(-INFINITY), C(INFINITY), 0};
  const Pack<C> bound = broadcast(square * (C(1) + C(sizeof(C) == 4 ? 1e-6 : 1e-14)));
  for (int64_t m = 0; m < all.padded; m += lanes)
    for (uint32_t word = bits(load(all.squares + m) <= bound); word != 0; word &= word - 1) {
      const int64_t at = m + __builtin_ctz(word);
      if (root(all.squares[at]) == nearest) return {-nearest, nearest, at};
    }
  return {-nearest, nearest, 0};
}

template <typename C> PYRCNN_HD Best<C> best_ranked(const Candidates<C>& all, const Search<C>& s, Ranking ranking) {
  constexpr int lanes = lanes_of<C>;
  for (int64_t m = 0; m < all.padded; ++m) {
    const C dy = all.ys[m] - s.y, dx = all.xs[m] - s.x;
    all.squares[m] = root(dy * dy + dx * dx);
  }
  Pack<C> nearest = broadcast(C(INFINITY)), best = broadcast(C(-INFINITY)), at{}, index{};
  for (int lane = 0; lane < lanes; ++lane) index[lane] = C(lane);
  for (int64_t m = 0; m < all.padded; m += lanes, index += C(lanes)) {
    const Pack<C> distance = load(all.squares + m);
    nearest = distance < nearest ? distance : nearest;
    Pack<C> ranks = load(all.scores + m) / (distance + s.addend);
    if (ranking == Ranking::kGaussian)
      for (int lane = 0; lane < lanes; ++lane) ranks[lane] = rank(s, ranking, distance[lane], all.scores[m + lane]);
    at = ranks > best ? index : at;
    best = ranks > best ? ranks : best;
  }
  C top = C(-INFINITY), first = C(0);
  for (int lane = 0; lane < lanes; ++lane)
    if (best[lane] > top || (best[lane] == top && at[lane] < first)) top = best[lane], first = at[lane];
  return {top, least<C>(nearest), int64_t(first)};
}

template <typename T> void match(const Maps<T>& maps, int64_t n, int64_t joint, compute_t<T>* scratch) {
  using C = compute_t<T>;
  const int64_t room = maps.candidates + 16;
  Candidates<C> all{scratch, scratch + room, scratch + 2 * room, scratch + 3 * room, 0};
  int64_t count = 0;
  for (int64_t m = 0; m < maps.candidates; ++m) {  // in descending order: the first that does not count is the end
    expect_offset(maps, n, joint, m + kAhead);
    const Joint<C> candidate = maps.candidate(n, joint, m);
    if (!(candidate.score > 0)) break;
    all.ys[count] = candidate.y, all.xs[count] = candidate.x, all.scores[count++] = candidate.score;
  }
  all.padded = ceil_div(count, lanes_of<C>) * lanes_of<C>;
  for (int64_t m = count; m < all.padded; ++m) all.ys[m] = all.xs[m] = C(NAN), all.scores[m] = C(0);

  for (int64_t detection = 0; detection < maps.detections; ++detection) {
    expect_regression(maps, n, detection + kAhead, joint);
    const Search<C> s = maps.search_of(n, detection, joint);
    const Best<C> best =
        maps.rules.ranking == Ranking::kDistance ? closest(all, s) : best_ranked(all, s, maps.rules.ranking);
    Joint<C> found{C(0), C(0), C(-1)};
    if (best.rank > C(-INFINITY)) found = {all.ys[best.at], all.xs[best.at], all.scores[best.at]};
    maps.write(n, detection, joint, settle(s, maps.rules, found, best.rank, best.nearest));
  }
}

template void match(const Maps<float>&, int64_t, int64_t, float*);
template void match(const Maps<double>&, int64_t, int64_t, double*);
template void match(const Maps<Half>&, int64_t, int64_t, float*);
template void match(const Maps<BFloat16>&, int64_t, int64_t, float*);

}  // namespace pyrcnn::match_keypoints::PYRCNN_ISA
