// The loops of nms_kernel.cpp, one version per instruction set. Other ops that suppress boxes call them too.
#pragma once
#include "common/cpu/kernel.h"
#include "pairs.h"

namespace pyrcnn::nms {

// Visits the candidates in order, writes the positions (0 <= i < count, ascending) of those kept to `kept` and returns
// how many; stops at max_output. `tiles` is scratch, tiles_for(min(count, max_output)) of them.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, greedy,
                      (const Candidates<T>& candidates, compute_t<T> threshold, int64_t max_output,
                       Tile<compute_t<T>>* tiles, uint32_t* kept))

// The same for candidates of several groups at once; `kept` is in the order of the candidates, not by group.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, greedy_grouped,
                      (const Candidates<T>& candidates, const Groups& groups, compute_t<T> threshold,
                       int64_t max_output, Tile<compute_t<T>>* tiles, uint32_t* kept))

// The result of greedy(), for many boxes and a threshold that Screen can use.
PYRCNN_DECLARE_KERNEL(template <typename T> int64_t, greedy_indexed,
                      (const Candidates<T>& candidates, const Index<compute_t<T>>& index, compute_t<T> threshold,
                       int64_t max_output, uint32_t* kept))

// Sorts the candidates along the curve: `ranks` has the candidate at each position. `keys` is scratch for `count` of
// them and up to a whole tile more, `bins` for kBins.
PYRCNN_DECLARE_KERNEL(template <typename T> void, strew,
                      (const Candidates<T>& candidates, uint32_t* keys, uint32_t* bins, uint32_t* ranks))

// Tiles [first, last) of `to`, whose ranks strew() found, and their extents.
PYRCNN_DECLARE_KERNEL(template <typename T> void, fill_tiles,
                      (const Candidates<T>& candidates, compute_t<T> threshold, int64_t first, int64_t last,
                       const Strewn<compute_t<T>>& to))

// The edges of tiles [first, last) among themselves and with later tiles before `end`, or -1 if there are more than
// about `room`. `near` is scratch, a number for every tile and kSpare more. The threshold must be one that Screen can
// use.
PYRCNN_DECLARE_KERNEL(template <typename C> int64_t, find_edges,
                      (const Strewn<C>& all, int64_t first, int64_t last, int64_t end, C threshold, uint32_t* near,
                       Edge* edges, int64_t room))

// order[0..count) = the places of `keys` by ascending key, equal ones as they stand; count <= kFew. By counting for
// each key the smaller ones, which for so few costs less than the bins of a radix sort.
PYRCNN_DECLARE_KERNEL(void, sort_few, (const uint32_t* keys, int64_t count, uint32_t* order))

}  // namespace pyrcnn::nms
