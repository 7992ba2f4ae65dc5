// Greedy suppression of up to 8192 ordered boxes by a bit matrix of all their pairs. The upper triangle of the matrix
// is a list of squares of 32 x 32 bits. Each square is computed by one warp, any one; then one block goes down the
// diagonal and finds which boxes are kept.
#pragma once
#include "common/cuda/grid.cuh"
#include "problem.cuh"
#include "settle.cuh"

namespace pyrcnn::nms {

constexpr int kMatrixThreads = 512, kMatrixWarps = kMatrixThreads / 32;  // of each block that calls these functions
constexpr int kMostWords = 256, kMostRows = 32 * kMostWords;             // of one problem: boxes, and words of 32 boxes

// Square t is in row r and column v >= r. It has 32 words, one for each box of r. Bit j of word i says that box 32 r +
// i would suppress box 32 v + j. On the diagonal bit j < i of word i says that box j would suppress box i, and bit i
// that box i is a gap.
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

// A warp's copy of 32 boxes in shared memory.
template <typename C> struct WarpBoxes {
  AlignedBox<C> boxes[32];
  C bounds[32];
  int64_t groups[32];
};

// The boxes of one problem, best first.
template <typename C> struct OrderedBoxes {
  const AlignedBox<C>* boxes;
  const int64_t* groups;  // null: one group
  int count;
  bool with_gaps;  // a box whose x1 is NaN is a gap: it neither suppresses nor is kept
};

// Computes the square `at`. All threads of one warp call this.
template <typename C>
__device__ void compare_square(const OrderedBoxes<C>& boxes, C threshold, SquareIndex at, WarpBoxes<C>& shared,
                               uint32_t* square) {
  const int lane = int(threadIdx.x % 32), i = 32 * at.r + lane, j = 32 * at.v + lane;
  const bool grouped = boxes.groups != nullptr, diagonal = at.r == at.v, real = j < boxes.count;
  const Screen<C> screen(threshold);
  const Box<C> own = boxes.boxes[i < boxes.count ? i : 0], box = boxes.boxes[real ? j : 0];
  const int64_t group = grouped && real ? boxes.groups[j] : 0;
  __syncwarp();  // the warp has read the last boxes
  shared.boxes[lane] = own, shared.bounds[lane] = screen.bound(area(own));
  if (grouped) shared.groups[lane] = boxes.groups[i < boxes.count ? i : 0];
  __syncwarp();

  const C box_area = area(box), bound = screen.bound(box_area);
  const int count = boxes.count - 32 * at.r < 32 ? boxes.count - 32 * at.r : 32;
  uint32_t mine = diagonal && boxes.with_gaps && box.x1 != box.x1 ? 1u << lane : 0;
#pragma unroll 2
  for (int b = 0; b < count; ++b) {
    const Box<C> other = shared.boxes[b];
    bool hit = real && (!diagonal || b < lane) &&
               (!screen.usable || Screen<C>::overlap(other, box) > shared.bounds[b] + bound);
    if (hit) hit = (!grouped || shared.groups[b] == group) && suppresses(other, box, area(other), box_area, threshold);
    if (diagonal) {
      mine |= uint32_t(hit) << b;
    } else {
      const uint32_t word = __ballot_sync(kFullWarp, hit);
      if (lane == b) mine = word;
    }
  }
  square[lane] = mine;
}

// In shared memory, for each word of 32 boxes: which are kept, and how many are kept before them.
struct Survivors {
  uint32_t stays[kMostWords];
  int before[kMostWords];
};

// Warp w owns the words w, w + 16, ..., kOwn of them. In step r one warp settles word r. Then every warp removes from
// its later words the boxes that those kept suppress, and loads its squares of the next step. Returns how many words
// were settled until `most` boxes were kept, and in `kept` how many boxes were kept.
template <int kOwn>
__device__ int settle_words(const uint32_t* squares, int count, int most, Survivors& survivors, int& kept) {
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), words = (count + 31) / 32;
  const auto square = [&](int r, int v) { return squares[16 * v * (v + 1) + 32 * r + lane]; };
  uint32_t gone = warp + kMatrixWarps * lane == count / 32 ? kFullWarp << count % 32 : 0;  // of own word number `lane`
  uint32_t diagonal =
      warp < words ? square(warp, warp) : 0;  // the diagonal square of the own word that is settled next
  uint32_t ahead[kOwn];                       // the squares of step r
#pragma unroll
  for (int k = 0; k < kOwn; ++k) {
    const int v = warp + kMatrixWarps * k;
    ahead[k] = v > 0 && v < words ? square(0, v) : 0;
  }
  kept = 0;
  __syncthreads();  // all have read the results of an earlier call
  for (int r = 0; r < words; ++r) {
    if (warp == r % kMatrixWarps) {
      const uint32_t self = 1u << lane;
      const uint32_t gaps = __ballot_sync(kFullWarp, (diagonal & self) != 0);
      const uint32_t out = __shfl_sync(kFullWarp, gone, r / kMatrixWarps) | gaps;
      const uint32_t stay = first_bits(settle(out, diagonal & ~self), most - kept);
      if (lane == 0) survivors.stays[r] = stay, survivors.before[r] = kept;
      if (r + kMatrixWarps < words) diagonal = square(r + kMatrixWarps, r + kMatrixWarps);
    }
    __syncthreads();
    const uint32_t stay = survivors.stays[r];
    kept += __popc(stay);
    if (kept == most) return r + 1;
    const uint32_t stays = (stay >> lane & 1) != 0 ? kFullWarp : 0;
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
      const int v = warp + kMatrixWarps * k;
      if (v > r && v < words) {
        const uint32_t struck = or_over_warp(ahead[k] & stays);
        ahead[k] = square(r + 1, v);  // not needed if v = r + 1
        if (lane == k) gone |= struck;
      }
    }
  }
  return words;
}

// Which boxes are kept, `most` at most. All threads of one block call this, for at most kWords words. Most problems
// have up to 1024 boxes, for which two words per warp suffice; that takes fewer registers and branches.
template <int kWords>
__device__ __forceinline__ int find_survivors(const uint32_t* squares, int count, int64_t most, Survivors& survivors,
                                              int& kept) {
  const int room = most < count ? int(most) : count;
  kept = 0;
  if (room == 0) return 0;
  if (count <= 2 * kMatrixThreads) return settle_words<2>(squares, count, room, survivors, kept);
  return settle_words<kWords / kMatrixWarps>(squares, count, room, survivors, kept);
}

// Computes the squares of all problems, squares_of(words) each, and calls finish(problem) in the block that computes
// the last square of a problem. The whole grid calls this. Each block computes consecutive squares. ordered(problem)
// returns the boxes of a problem; `arrived` holds a 0 for each problem.
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
