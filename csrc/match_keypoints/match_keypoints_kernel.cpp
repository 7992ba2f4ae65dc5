// Compiled once per instruction set.
#include "common/simd/twin.h"
#include "match_keypoints.h"

namespace pyrcnn::match_keypoints::PYRCNN_ISA {
using namespace pyrcnn::PYRCNN_ISA;

// Each lane of a pack is a detection, and all lanes search for the same joint. Returns the squared distances from
// candidate `m`.
template <typename T, typename C = compute_t<T>>
PYRCNN_HD Pack<C> squared_distance(const Candidates<T>& all, const Search<Pack<C>>& s, int64_t m) {
  const Pack<C> dy = broadcast(all.ys[m]) - s.y, dx = broadcast(all.xs[m]) - s.x;
  return dy * dy + dx * dx;
}
template <typename C> struct Best {
  Pack<C> rank, nearest;  // rank is -infinity if there is no candidate
  Mask<C> at;             // index of the best candidate, the first among equals
};

template <typename C> PYRCNN_HD Pack<C> roots(Pack<C> x) {
  C numbers[lanes_of<C>];
  store(numbers, x);
  for (C& number : numbers) number = root(number);
  return load(numbers);
}

// The best candidates by distance alone, for kPacks packs of detections at a time. It compares squared distances.
// Rounding may make the roots of two different squares equal, and then the first of those candidates must win. So if
// another square is close to the least one, a second loop searches for the first candidate whose root is the least.
constexpr int kPacks = 2;
template <typename T, typename C = compute_t<T>>
PYRCNN_HD void closest(const Candidates<T>& all, const Search<Pack<C>>* s, Best<C>* best) {
  const Pack<C> infinity = broadcast(C(INFINITY));
  Pack<C> lowest[kPacks], before[kPacks];
  Mask<C> at[kPacks] = {}, index{};
  for (int k = 0; k < kPacks; ++k) lowest[k] = before[k] = infinity;
  for (int64_t m = 0; m < all.count; ++m, index += 1)
#pragma GCC unroll 2
    for (int k = 0; k < kPacks; ++k) {
      const Pack<C> square = squared_distance(all, s[k], m);
      const Mask<C> less = square < lowest[k];
      before[k] = less ? lowest[k] : before[k], lowest[k] = least(square, lowest[k]);
      at[k] = less ? index : at[k];
    }
  for (int k = 0; k < kPacks; ++k) {
    const Pack<C> nearest = roots<C>(lowest[k]);
    if (bits(before[k] <= lowest[k] * C(sizeof(C) == 4 ? 1.000001 : 1 + 1e-14)) != 0) {
      Mask<C> from_last = index;
      for (int64_t m = all.count; m-- > 0;) {
        from_last -= 1;
        at[k] = roots<C>(squared_distance(all, s[k], m)) == nearest ? from_last : at[k];
      }
    }
    best[k] = {lowest[k] < infinity ? -nearest : -infinity, nearest, at[k]};
  }
}

template <typename T, typename C = compute_t<T>>
PYRCNN_HD Best<C> best_ranked(const Candidates<T>& all, const Search<Pack<C>>& s, Ranking ranking) {
  Best<C> best{broadcast(C(-INFINITY)), broadcast(C(INFINITY)), {}};
  Mask<C> index{};
  for (int64_t m = 0; m < all.count; ++m, index += 1) {
    const Pack<C> distance = roots<C>(squared_distance(all, s, m));
    const Pack<C> ranked = rank(s, ranking, distance, broadcast(all.scores[m]));
    best.nearest = distance < best.nearest ? distance : best.nearest;
    best.at = ranked > best.rank ? index : best.at;
    best.rank = ranked > best.rank ? ranked : best.rank;
  }
  return best;
}

// The searches of a pack of detections from `first` on.
template <typename T, typename C = compute_t<T>>
PYRCNN_HD Search<Pack<C>> searches(const Maps<T>& maps, const Detections<T>& detections, int64_t first, int64_t joint) {
  constexpr int lanes = lanes_of<C>;
  const int64_t step = maps.of_regression.c;
  C dy[lanes] = {}, dx[lanes] = {};
  for (int lane = 0; lane < lanes; ++lane) {
    const T* r = detections.regressions[first + lane];
    if (r != nullptr) dy[lane] = C(r[2 * joint * step]), dx[lane] = C(r[(2 * joint + 1) * step]);
  }
  const Search<C*>& a = detections.around;
  const auto row = [&](const C* field) { return load(field + first); };
  return {row(a.y) + load(dy), row(a.x) + load(dx), {row(a.area.x1), row(a.area.y1), row(a.area.x2), row(a.area.y2)},
          row(a.reach),        row(a.addend),       row(a.sigma) * maps.spread(joint)};
}

template <typename T>
void match(const Maps<T>& maps, const Detections<T>& detections, int64_t n, int64_t joint, const Candidates<T>& all) {
  using C = compute_t<T>;
  constexpr int lanes = lanes_of<C>;
  for (int64_t m = 0; m < all.count; ++m)
    all.ys[m] += C(all.offsets[m][0]), all.xs[m] += C(all.offsets[m][maps.of_offset.c]);
  const Ranking ranking = maps.rules.ranking;
  for (int64_t group = 0; group < maps.detections; group += kPacks * lanes) {
    Search<Pack<C>> s[kPacks];
    Best<C> best[kPacks];
    for (int k = 0; k < kPacks; ++k) s[k] = searches(maps, detections, group + k * lanes, joint);
    if (ranking == Ranking::kDistance) closest(all, s, best);
    else
      for (int k = 0; k < kPacks; ++k) best[k] = best_ranked(all, s[k], ranking);
    for (int k = 0; k < kPacks; ++k) {
      const int64_t first = group + k * lanes;
      C ys[lanes] = {}, xs[lanes] = {}, scores[lanes];
      for (int lane = 0; lane < lanes; ++lane) {
        const bool found = best[k].rank[lane] > C(-INFINITY);
        const int64_t at = best[k].at[lane];
        scores[lane] = found ? all.scores[at] : C(-1);
        if (found) ys[lane] = all.ys[at], xs[lane] = all.xs[at];
      }
      const Joint<Pack<C>> joints =
          settle(s[k], maps.rules, Joint<Pack<C>>{load(ys), load(xs), load(scores)}, best[k].rank, best[k].nearest);
      store(ys, joints.y), store(xs, joints.x), store(scores, joints.score);
      for (int lane = 0; lane < lanes && first + lane < maps.detections; ++lane)
        maps.write(n, first + lane, joint, Joint<C>{ys[lane], xs[lane], scores[lane]});
    }
  }
}

template void match(const Maps<float>&, const Detections<float>&, int64_t, int64_t, const Candidates<float>&);
template void match(const Maps<double>&, const Detections<double>&, int64_t, int64_t, const Candidates<double>&);
template void match(const Maps<Half>&, const Detections<Half>&, int64_t, int64_t, const Candidates<Half>&);
template void match(const Maps<BFloat16>&, const Detections<BFloat16>&, int64_t, int64_t, const Candidates<BFloat16>&);

}  // namespace pyrcnn::match_keypoints::PYRCNN_ISA
