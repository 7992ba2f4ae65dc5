// Up to 8192 boxes per image: sorting and suppression in one launch, which is one node of a CUDA graph.
//
// There are three parts: rank the boxes, compare all pairs, find which are kept. They depend on each other. A
// dependency between two nodes of a graph costs about as much as a barrier of the whole grid, 1 to 1.5 microseconds.
// One launch needs one barrier, after the ranking; separate launches would also need a node that zeroes counters. No
// block waits between the other two parts: the block that completes the matrix of an image goes on to find which of its
// boxes are kept.
//
// All blocks share the comparing, because one multiprocessor would take 40 microseconds for the 500,000 pairs of 1,000
// boxes; the matrix stays in the L2 cache. Ranks are counted, each box against all, because all blocks can share that
// too: one block that sorts takes about 60 steps with a barrier each.
#pragma once
#include "pair_matrix.cuh"

namespace pyrcnn::nms {

template <typename T> struct NmsAtOnce {
  using C = compute_t<T>;
  Problem<T> p;
  int64_t first, images;  // of this launch
  int words;
  AlignedBox<C>* boxes;  // [images, rows], by rank
  int64_t* groups;       // likewise, or null
  uint32_t* squares;     // [images, squares_of(words), 32]
  int32_t* arrived;      // [images]: squares that are computed
};

template <typename C> using ScoreKey = decltype(descending_key(C{}));
template <typename C> constexpr int kRankKeys = 16384 / int(sizeof(C));  // in shared memory at a time
template <typename C> struct RankState {
  alignas(16) ScoreKey<C> keys[kRankKeys<C>];
  int ranks[32];
  int sums[32];
};

// Ranks the rows 32 word ... 32 word + 31 among all rows of the image, and stores their boxes by rank. All threads of
// one block call this.
template <typename T>
__device__ void rank_rows(const NmsAtOnce<T>& a, int64_t slot, int word, RankState<compute_t<T>>& s) {
  using C = compute_t<T>;
  using Key = ScoreKey<C>;
  constexpr Key kNone = Key(-1);  // greater than every score's key
  constexpr int kAtOnce = 16 / int(sizeof(Key));
  struct alignas(16) Keys {
    Key key[kAtOnce];
  };
  const Problem<T>& p = a.p;
  const int64_t image = a.first + slot;
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), rows = int(p.rows), row = 32 * word + lane;
  const auto key_of = [&](int i) {
    return i < rows && p.competes(image, i) ? descending_key(C(p.scores[image * rows + i])) : kNone;
  };
  const Key own = key_of(row);
  int before = 0, competitors = 0;
  for (int start = 0; start < rows; start += kRankKeys<C>) {
    const int size = rows - start < kRankKeys<C> ? (rows - start + 31) / 32 * 32 : kRankKeys<C>;
    __syncthreads();  // all have read `s`
    for (int i = int(threadIdx.x); i < size; i += kMatrixThreads) {
      s.keys[i] = key_of(start + i);
      competitors += s.keys[i] != kNone;
    }
    if (start == 0 && threadIdx.x < 32) s.ranks[threadIdx.x] = 0;
    __syncthreads();
    for (int strip = warp; strip < size / 32; strip += kMatrixWarps) {  // 32 rows
      const int other = start / 32 + strip;
      const Key bound = own + Key(other < word);  // equal scores go by lower row
#pragma unroll 2
      for (int b = 0; b < 32; b += kAtOnce) {
        const Keys keys = *reinterpret_cast<const Keys*>(s.keys + 32 * strip + b);
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) before += keys.key[k] < bound + Key(other == word && b + k < lane);
      }
    }
  }
  atomicAdd(s.ranks + lane, before);
  if (word == 0) {
    competitors = sum_over_block(competitors, s.sums);
    if (threadIdx.x == 0) p.competitors[image] = competitors;
  }
  __syncthreads();
  if (warp == 0 && own != kNone) {
    const int64_t at = slot * rows + s.ranks[lane];
    p.order[image * rows + s.ranks[lane]] = uint32_t(row);
    a.boxes[at] = p.box(image, row);
    if (p.groups != nullptr) a.groups[at] = p.group(image, row);
  }
}

// Writes which rows are kept, once all squares of the image are computed. All threads of one block call this.
template <typename T> __device__ void keep_rows(const NmsAtOnce<T>& a, int64_t slot, Survivors& s) {
  const Problem<T>& p = a.p;
  const int64_t image = a.first + slot;
  int64_t* indices = p.indices + image * p.max_output;
  int kept = 0;
  const int words = find_survivors<kMostWords>(a.squares + 32 * slot * squares_of(a.words), int(p.competitors[image]),
                                               p.max_output, s, kept);
  for (int i = int(threadIdx.x); i < 32 * words; i += kMatrixThreads) {
    const uint32_t word = s.stays[i / 32], before = word & ((1u << i % 32) - 1);
    if ((word >> i % 32 & 1) != 0) indices[s.before[i / 32] + __popc(before)] = p.row_at(image, i);
  }
  for (int64_t n = kept + int64_t(threadIdx.x); n < p.max_output; n += kMatrixThreads) indices[n] = -1;
  if (threadIdx.x == 0) p.counts[image] = kept;
}

template <typename T>
__global__ void __launch_bounds__(kMatrixThreads, 1) at_once(const __grid_constant__ NmsAtOnce<T> a) {
  using C = compute_t<T>;
  __shared__ union Shared {
    RankState<C> rank;
    WarpBoxes<C> warp_boxes[kMatrixWarps];
    Survivors survivors;
  } s;
  for (int64_t item = blockIdx.x; item < a.images * a.words; item += gridDim.x)
    rank_rows(a, item / a.words, int(item % a.words), s.rank);
  for (int64_t i = blockIdx.x * int64_t(kMatrixThreads) + threadIdx.x; i < a.images; i += gridDim.x * kMatrixThreads)
    a.arrived[i] = 0;
  meet_whole_grid();

  const auto ordered = [&](int64_t slot) {
    return OrderedBoxes<C>{a.boxes + slot * a.p.rows, a.groups ? a.groups + slot * a.p.rows : nullptr,
                           int(a.p.competitors[a.first + slot]), false};
  };
  compare_all(a.images, a.words, a.p.iou_threshold, s.warp_boxes, a.squares, a.arrived, ordered,
              [&](int64_t slot) { keep_rows(a, slot, s.survivors); });
}

// Sets the outputs; p.rows <= kMostRows. One launch per batch of images whose matrices fit into kMatrixBytes.
template <typename T> void solve_at_once(const OnDevice& on, const Tensor& like, const Problem<T>& p) {
  using C = compute_t<T>;
  NmsAtOnce<T> a{};
  a.p = p, a.words = int(ceil_div(p.rows, 32));
  const int64_t each = squares_of(a.words), batch = lower(p.images, higher<int64_t>(kMatrixBytes / (128 * each), 1));
  const Tensor boxes = scratch_bytes(like, batch * p.rows * int64_t(sizeof(AlignedBox<C>)));
  const Tensor groups = scratch_bytes(like, p.groups ? batch * p.rows * 8 : 0);
  const Tensor squares = scratch_bytes(like, 128 * batch * each), arrived = scratch_bytes(like, 4 * batch);
  a.boxes = mutable_data<AlignedBox<C>>(boxes), a.groups = p.groups ? mutable_data<int64_t>(groups) : nullptr;
  a.squares = mutable_data<uint32_t>(squares), a.arrived = mutable_data<int32_t>(arrived);
  for (a.first = 0; a.first < p.images; a.first += batch) {
    a.images = lower(batch, p.images - a.first);
    // Four squares per block: they keep a multiprocessor busy, and more would use fewer multiprocessors.
    launch_together(on, &at_once<T>, a.images * higher<int64_t>(a.words, ceil_div(each, 4)), kMatrixThreads, a);
  }
}

}  // namespace pyrcnn::nms
