// The loops of the *_kernel.cpp files here, one version per instruction set. Other operators that suppress boxes call
// them too.
#pragma once
#include <memory>

#include "bundles.h"
#include "common/cpu/kernel.h"
#include "indexed.h"

namespace pyrcnn::nms {

// Uninitialized memory.
template <typename T> std::unique_ptr<T[]> scratch(int64_t count) { return std::unique_ptr<T[]>(new T[count]); }

// in_turn_kernel.cpp: visits the candidates in order, writes the numbers i of those kept to `kept`, ascending, and
// returns how many; stops at max_output. `bundles` is scratch, bundles_for(min(count, max_output)) of them.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, greedy,
                      (const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output,
                       BoxBundle<compute_t<T>>* bundles, uint32_t* kept))

// The same for candidates of several groups. `kept` is in the order of the candidates, whatever their groups.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, greedy_grouped,
                      (const Candidates<T>& candidates, const Groups& groups, compute_t<T> threshold,
                       int64_t max_output, BoxBundle<compute_t<T>>* bundles, uint32_t* kept))

// indexed_kernel.cpp: the result of greedy(). The threshold must be one that Screen can use.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, greedy_indexed,
                      (const Candidates<T>& candidates, const KeptIndex<compute_t<T>>& index, compute_t<T> threshold,
                       int64_t max_output, uint32_t* kept))

// curve_kernel.cpp: sorts the candidates along a curve through centres and sizes and writes their numbers in this order
// to `sorted`; keys[i] becomes the position of candidate i. There must be room for bundles_for(count) * kBundle keys
// and for kBins bins.
PYRCNN_DECLARE_KERNEL(template <typename T> void, sort_along_curve,
                      (const Candidates<T>& candidates, uint32_t* keys, uint32_t* bins, uint32_t* sorted))

// curve_kernel.cpp: copies the candidates to.numbers[...] into bundles [first, last) of `to` and sets their bounds.
PYRCNN_DECLARE_KERNEL(template <typename T> void, fill_bundles,
                      (const Candidates<T>& candidates, compute_t<T> threshold, int64_t first, int64_t last,
                       const BundledBoxes<compute_t<T>>& to))

// by_pairs_kernel.cpp: writes the suppressing pairs within and among bundles [first, last), and between these and the
// later bundles before `end`, to `pairs`. Returns how many, or -1 if more than about `room`. `near` is scratch, a
// number for every bundle and kSpare more. The threshold must be one that Screen can use.
PYRCNN_DECLARE_KERNEL(template <typename C> int64_t, find_pairs,
                      (const BundledBoxes<C>& all, int64_t first, int64_t last, int64_t end, C threshold,
                       uint32_t* near, SuppressingPair* pairs, int64_t room))

}  // namespace pyrcnn::nms
