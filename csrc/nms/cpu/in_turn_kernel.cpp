// Compiled once per instruction set. The method "in turn": every candidate is compared with all boxes kept before it.
#include "in_turn.h"

namespace pyrcnn::nms::PYRCNN_ISA {

// The loop of both functions below; kGroups: with groups.
template <bool kScreen, bool kGroups, typename T, typename C = compute_t<T>>
PYRCNN_HD int64_t visit(const Candidates<T>& candidates, const Groups* groups, C threshold, int64_t max_output,
                        BoxBundle<C>* bundles, uint32_t* kept) {
  const Screen<C> screen(threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < candidates.count && count < max_output; ++i) {
    const T* row = row_of(candidates, i);
    const Box<C> box{C(row[0]), C(row[1]), C(row[2]), C(row[3])};
    const C area = pyrcnn::area(box), bound = screen.bound(area);
    const PackedCandidate<C> candidate(box, area, bound, threshold);
    BoxBundle<C>* of_group = kGroups ? bundles + groups->first_bundle[groups->of[i]] : bundles;
    const int64_t rivals = kGroups ? groups->kept[groups->of[i]] : count;
    if (kGroups && rivals >= int64_t(groups->most)) continue;
    if (suppressed<kScreen>(candidate, of_group, bundles_for(rivals))) continue;
    keep(of_group, rivals, box, bound);
    if (kGroups) ++groups->kept[groups->of[i]];
    kept[count++] = uint32_t(i);
  }
  return count;
}

template <typename T>
int64_t greedy(const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output,
               BoxBundle<compute_t<T>>* bundles, uint32_t* kept) {
  return Screen<compute_t<T>>(threshold).usable
             ? visit<true, false>(candidates, nullptr, threshold, max_output, bundles, kept)
             : visit<false, false>(candidates, nullptr, threshold, max_output, bundles, kept);
}

template <typename T>
int64_t greedy_grouped(const Candidates<T>& candidates, const Groups& groups, compute_t<T> threshold,
                       int64_t max_output, BoxBundle<compute_t<T>>* bundles, uint32_t* kept) {
  return Screen<compute_t<T>>(threshold).usable
             ? visit<true, true>(candidates, &groups, threshold, max_output, bundles, kept)
             : visit<false, true>(candidates, &groups, threshold, max_output, bundles, kept);
}

#define PYRCNN_INSTANTIATE(T)                                                                                \
  template int64_t greedy(const Candidates<T>&, compute_t<T>, int64_t, BoxBundle<compute_t<T>>*, uint32_t*); \
  template int64_t greedy_grouped(const Candidates<T>&, const Groups&, compute_t<T>, int64_t,                \
                                  BoxBundle<compute_t<T>>*, uint32_t*);
PYRCNN_INSTANTIATE(float)
PYRCNN_INSTANTIATE(double)
PYRCNN_INSTANTIATE(Half)
PYRCNN_INSTANTIATE(BFloat16)

}  // namespace pyrcnn::nms::PYRCNN_ISA
