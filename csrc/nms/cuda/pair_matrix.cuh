// Greedy suppression of a few thousand ordered boxes by a bit matrix of all their pairs. Of the matrix, its upper
// triangle is a list of squares of 32 x 32: any warp makes any of them, then one block walks down the diagonal.
#pragma once
#include "common/cuda/grid.cuh"
#include "problem.cuh"
#include "settle.cuh"

namespace pyrcnn::nms {

constexpr int kMatrixThreads = 512, kMatrixWarps = kMatrixThreads / 32;  // of every kernel that uses this
constexpr int kMostWords = 256, kMostRows = 32 * kMostWords;             // boxes of one problem; words of 32 boxes

// Tile t is column v of row r <= v. It has 32 words, one per box of r: bit j of word i: box 32 r + i suppresses box
// 32 v + j. But on the diagonal bit j of word i: j < i suppresses i, or j = i and takes no part.
PYRCNN_HD int64_t squares_of(int64_t words) { return words * (words + 1) / 2; }
struct SquareIndex {
  int r, v;
};
__device__ inline SquareIndex square_index(int t) {
  int v = int((sqrtf(float(8 * t + 1)) - 1) / 2);
  v += (v + 1) * (v + 2) / 2 <= t;
  v -= v * (v + 1) / 2 > t;
  return {t - v * (v + 1) / 2, v};
}

// A box that is loaded 16 bytes at a time.
template <typename C> struct alignas(16) AlignedBox {
  C x1, y1, x2, y2;
  AlignedBox() = default;
  PYRCNN_HD AlignedBox(const Box<C>& b) : x1(b.x1), y1(b.y1), x2(b.x2), y2(b.y2) {}
  PYRCNN_HD operator Box<C>() const { return {x1, y1, x2, y2}; }
};

// One warp's copy of 32 boxes, in shared memory.
template <typename C> struct WarpBoxes {
  AlignedBox<C> boxes[32];
  C bounds[32];
  int64_t groups[32];
};

// The boxes of one problem in order.
template <typename C> struct OrderedBoxes {
  const AlignedBox<C>* boxes;
  const int64_t* groups;  // or null: one group
  int count;
  bool with_gaps;  // a box whose x1 is NaN is a gap: it takes no part
};

// By one warp.
template <typename C>
__device__ void compare_square(const OrderedBoxes<C>& boxes, C threshold, SquareIndex at, WarpBoxes<C>& strip,
                               uint32_t* square) {
  const int lane = int(threadIdx.x % 32), i = 32 * at.r + lane, j = 32 * at.v + lane;
  const bool grouped = boxes.groups != nullptr, diagonal = at.r == at.v, real = j < boxes.count;
  const Screen<C> screen(threshold);
  const Box<C> own = boxes.boxes[i < boxes.count ? i : 0], box = boxes.boxes[real ? j : 0];
  const int64_t group = grouped && real ? boxes.groups[j] : 0;
  __syncwarp();  // the strip's last readers are done
  strip.boxes[lane] = own, strip.bounds[lane] = screen.bound(area(own));
  if (grouped) strip.groups[lane] = boxes.groups[i < boxes.count ? i : 0];
  __syncwarp();

  const C box_area = area(box), bound = screen.bound(box_area);
  const int count = boxes.count - 32 * at.r < 32 ? boxes.count - 32 * at.r : 32;
  uint32_t mine = diagonal && boxes.with_gaps && box.x1 != box.x1 ? 1u << lane : 0;
#pragma unroll 2
  for (int b = 0; b < count; ++b) {
    const Box<C> other = strip.boxes[b];
    bool hit =
        real && (!diagonal || b < lane) && (!screen.usable || Screen<C>::overlap(other, box) > strip.bounds[b] + bound);
    if (hit) hit = (!grouped || strip.groups[b] == group) && suppresses(other, box, area(other), box_area, threshold);
    if (diagonal) {
      mine |= uint32_t(hit) << b;
    } else {
      const uint32_t word = __ballot_sync(kFullWarp, hit);
      if (lane == b) mine = word;
    }
  }
  square[lane] = mine;
}

// What stays, in shared memory: of each word that was walked, which boxes, and how many before them.
struct Survivors {
  uint32_t stays[kMostWords];
  int before[kMostWords];
};

// Warp w answers for kOwn words, w, w + 16, ... In step r one warp settles word r by itself, then all strike out of
// their later words what those that stay suppress, and ask for their squares of the next step. Returns how many words
// were walked before `most` boxes stay, and how many boxes stay in `kept`.
template <int kOwn>
__device__ int settle_words(const uint32_t* squares, int count, int most, Survivors& walk, int& kept) {
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), words = (count + 31) / 32;
  const auto square = [&](int r, int v) { return squares[16 * v * (v + 1) + 32 * r + lane]; };
  uint32_t gone = warp + kMatrixWarps * lane == count / 32 ? kFullWarp << count % 32 : 0;  // of the lane-th own word
  uint32_t diagonal = warp < words ? square(warp, warp) : 0;  // of the own word that is settled next
  uint32_t ahead[kOwn];                                       // the squares of step r
#pragma unroll
  for (int k = 0; k < kOwn; ++k) {
    const int v = warp + kMatrixWarps * k;
    ahead[k] = v > 0 && v < words ? square(0, v) : 0;
  }
  kept = 0;
  __syncthreads();  // an earlier walk's results are read no more
  for (int r = 0; r < words; ++r) {
    if (warp == r % kMatrixWarps) {
      const uint32_t self = 1u << lane;
      const uint32_t gaps = __ballot_sync(kFullWarp, (diagonal & self) != 0);
      const uint32_t out = __shfl_sync(kFullWarp, gone, r / kMatrixWarps) | gaps;
      const uint32_t stay = first_bits(settle(out, diagonal & ~self), most - kept);
      if (lane == 0) walk.stays[r] = stay, walk.before[r] = kept;
      if (r + kMatrixWarps < words) diagonal = square(r + kMatrixWarps, r + kMatrixWarps);
    }
    __syncthreads();
    const uint32_t stay = walk.stays[r];
    kept += __popc(stay);
    if (kept == most) return r + 1;
    const uint32_t stays = (stay >> lane & 1) != 0 ? kFullWarp : 0;
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
      const int v = warp + kMatrixWarps * k;
      if (v > r && v < words) {
        const uint32_t struck = or_over_warp(ahead[k] & stays);
        ahead[k] = square(r + 1, v);  // or, where v = r + 1, what nobody needs
        if (lane == k) gone |= struck;
      }
    }
  }
  return words;
}

// By a block of kMatrixThreads, for at most kWords words. Most problems have no more than 1024 boxes: few words, few
// registers and few branches.
template <int kWords>
__device__ __forceinline__ int walk(const uint32_t* squares, int count, int64_t most, Survivors& walk, int& kept) {
  const int room = most < count ? int(most) : count;
  kept = 0;
  if (room == 0) return 0;
  if (count <= 2 * kMatrixThreads) return settle_words<2>(squares, count, room, walk, kept);
  return settle_words<kWords / kMatrixWarps>(squares, count, room, walk, kept);
}

// By the whole grid: makes the squares of all problems, squares_of(words) each, and calls finish(problem) in the block
// that makes the last of one. Each block has a run of squares, the problems one after the other, so that at most two
// blocks share the end of one. ordered(problem) are its boxes; `arrived` has a 0 for each problem.
template <typename C, typename F, typename G>
__device__ void compare_all(int64_t problems, int64_t words, C threshold, WarpBoxes<C> (&warp_boxes)[kMatrixWarps],
                            uint32_t* squares, int32_t* arrived, const F& ordered, const G& finish) {
  const int64_t each = squares_of(words), total = problems * each;
  const int64_t begin = total * blockIdx.x / gridDim.x, end = total * (blockIdx.x + 1) / gridDim.x;
  for (int64_t t = begin + threadIdx.x / 32; t < end; t += kMatrixWarps) {
    const int64_t problem = quotient(t, each);
    const SquareIndex at = square_index(int(t - problem * each));
    const OrderedBoxes<C> boxes = ordered(problem);
    if (32 * at.v < boxes.count) compare_square(boxes, threshold, at, warp_boxes[threadIdx.x / 32], squares + 32 * t);
  }
  for (int64_t problem = quotient(begin, each); problem * each < end; ++problem) {
    const int64_t from = higher(begin, problem * each), to = lower(end, (problem + 1) * each);
    if (from < to && last_to_arrive(arrived + problem, to - from, each)) finish(problem);
  }
}

}  // namespace pyrcnn::nms
