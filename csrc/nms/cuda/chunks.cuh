// Greedy suppression of ordered rows on CUDA, with memory linear in the number of boxes. The rows of each image are
// processed in chunks of 1024, with two launches per chunk. `compare` uses many blocks; it finds which boxes of the
// chunk are suppressed by boxes kept from earlier chunks, and which pairs inside the chunk suppress each other, as a
// bit matrix. `settle_chunk` uses one block per image; it goes down the matrix and appends the boxes that are kept. The
// number of launches depends on shapes alone, and the blocks of an image that is complete return at once, so the host
// never waits.
#pragma once
#include "problem.cuh"
#include "settle.cuh"

namespace pyrcnn::nms {

constexpr int kChunk = 1024, kWords = kChunk / 32;
constexpr int kCompareThreads = 256, kCompareWarps = kCompareThreads / 32;
constexpr int64_t kMaxSplits = 64;  // parts into which the kept boxes of an image are split, one block each

// For a batch of images; `slot` is an image of the batch. kept, kept_groups and suppressed are null if one chunk holds
// all rows.
template <typename C> struct ChunkWorkspace {
  Box<C>* kept;          // [slots, capacity]: boxes kept so far
  int64_t* kept_groups;  // [slots, capacity]
  int64_t capacity;
  uint32_t* suppressed;  // [slots, kWords]: bits of the chunk's boxes; zero between chunks
  uint32_t* matrix;      // [slots, words, chunk]: bit j % 32 of word j / 32 of row i says that i would suppress j > i,
                         // but in a row's own word (j / 32 = i / 32) that j < i would suppress i
  int chunk, words;      // rows per chunk, a multiple of 32, and words of 32 rows
};

// Compares the rows 32 r + b of the chunk with its rows 32 v + lane. All threads of one warp call this.
template <typename T>
__device__ void compare_within(const Problem<T>& p, const ChunkWorkspace<compute_t<T>>& w, int64_t image, int64_t slot,
                               int64_t begin, int count, int r, int v) {
  using C = compute_t<T>;
  const int lane = int(threadIdx.x % 32), i = 32 * r + lane, j = 32 * v + lane;
  if (r > v || 32 * r >= count || 32 * v >= count) return;
  const int64_t row_i = p.row_at(image, begin + (i < count ? i : 0)),
                row_j = p.row_at(image, begin + (j < count ? j : 0));
  const Box<C> box_i = p.box(image, row_i), box_j = p.box(image, row_j);
  const long long group_i = p.group(image, row_i), group_j = p.group(image, row_j);
  const PairTest<C> suppresses(p.iou_threshold);
  uint32_t mine = 0;
  for (int b = 0; b < 32 && 32 * r + b < count; ++b) {
    const Box<C> box_b{__shfl_sync(kFullWarp, box_i.x1, b), __shfl_sync(kFullWarp, box_i.y1, b),
                       __shfl_sync(kFullWarp, box_i.x2, b), __shfl_sync(kFullWarp, box_i.y2, b)};
    const long long group_b = __shfl_sync(kFullWarp, group_i, b);
    const bool hit = j < count && j > 32 * r + b && group_b == group_j && suppresses(box_b, box_j);
    if (r == v) {
      mine |= uint32_t(hit) << b;
    } else {
      const uint32_t word = __ballot_sync(kFullWarp, hit);
      if (lane == b) mine = word;
    }
  }
  w.matrix[(slot * w.words + v) * w.chunk + i] = mine;
}

// Compares 256 boxes of the chunk with one of `splits` parts of the kept boxes: every `splits`-th run of 256. All
// threads of one block call this.
template <typename T>
__device__ void compare_with_kept(const Problem<T>& p, const ChunkWorkspace<compute_t<T>>& w, int64_t image,
                                  int64_t slot, int64_t begin, int count, int part, int64_t split, int64_t splits) {
  using C = compute_t<T>;
  __shared__ Box<C> boxes[kCompareThreads];
  __shared__ int64_t groups[kCompareThreads];
  const int j = part * kCompareThreads + int(threadIdx.x);
  const int64_t row = p.row_at(image, begin + (j < count ? j : 0));
  const Box<C> box = p.box(image, row);
  const int64_t group = p.group(image, row), kept = p.counts[image];
  const PairTest<C> suppresses(p.iou_threshold);
  bool done = j >= count, hit = false;
  for (int64_t start = split * kCompareThreads; start < kept; start += splits * kCompareThreads) {
    const int64_t left = kept - start;
    const int size = left < kCompareThreads ? int(left) : kCompareThreads;
    if (int(threadIdx.x) < size) {
      boxes[threadIdx.x] = w.kept[slot * w.capacity + start + threadIdx.x];
      groups[threadIdx.x] = w.kept_groups[slot * w.capacity + start + threadIdx.x];
    }
    __syncthreads();
    for (int k = 0; k < size && !done; ++k)
      if (groups[k] == group && suppresses(boxes[k], box)) done = hit = true;
    if (__syncthreads_and(done)) break;
  }
  const uint32_t word = __ballot_sync(kFullWarp, hit);
  if (threadIdx.x % 32 == 0 && word != 0) atomicOr(w.suppressed + slot * kWords + j / 32, word);
}

// grid: (blocks for the pairs inside the chunk, then parts x splits blocks for the kept boxes; images of the batch)
template <typename T>
__global__ void __launch_bounds__(kCompareThreads) compare(const Problem<T> p, const ChunkWorkspace<compute_t<T>> w,
                                                           int64_t first_image, int64_t begin, int64_t splits) {
  const int64_t slot = blockIdx.y, image = first_image + slot;
  const int64_t left = p.competitors[image] - begin;
  if (left <= 0 || p.counts[image] >= p.max_output) return;
  const int count = left < w.chunk ? int(left) : w.chunk;
  const int inner = int(ceil_div(w.words * w.words, kCompareWarps)), block = int(blockIdx.x);
  if (block < inner) {
    const int square = block * kCompareWarps + int(threadIdx.x / 32);
    if (square < w.words * w.words) compare_within(p, w, image, slot, begin, count, square / w.words, square % w.words);
  } else {
    const int64_t index = block - inner;
    compare_with_kept(p, w, image, slot, begin, count, int(index / splits), index % splits, splits);
  }
}

// One block per image. Warp v owns the chunk's boxes 32 v ... 32 v + 31. In step r warp r settles its boxes, then every
// later warp removes the boxes that those kept suppress.
template <typename T>
__global__ void __launch_bounds__(kChunk)
    settle_chunk(const Problem<T> p, const ChunkWorkspace<compute_t<T>> w, int64_t first_image, int64_t begin) {
  __shared__ uint32_t stays[kWords];
  __shared__ int room;  // how many more boxes the image may keep
  const int64_t slot = blockIdx.x, image = first_image + slot, kept = p.counts[image];
  const int64_t left = p.competitors[image] - begin;
  if (left <= 0 || kept >= p.max_output) return;
  const int count = left < w.chunk ? int(left) : w.chunk, words = (count + 31) / 32;
  const int i = int(threadIdx.x), v = i / 32, lane = i % 32;
  const uint32_t* column = w.matrix + (slot * w.words + v) * w.chunk;  // word v of every row

  uint32_t gone = kFullWarp;  // the same in all lanes of a warp
  if (v < words) {
    gone = v == count / 32 ? kFullWarp << (count % 32) : 0;
    if (w.kept != nullptr) gone |= w.suppressed[slot * kWords + v];
  }
  uint32_t ahead = v < words ? column[lane] : 0;
  if (lane == 0) stays[v] = 0;
  if (i == 0) room = p.max_output - kept < kChunk ? int(p.max_output - kept) : kChunk;
  __syncthreads();
  for (int r = 0; r < words; ++r) {
    const uint32_t mine = ahead;  // word v of row 32 r + lane; undefined if v < r
    if (v > r && v < words && r + 1 < words) ahead = column[32 * (r + 1) + lane];
    if (v == r) {
      const int more = room;
      const uint32_t stay = first_bits(settle(gone, mine), more);
      if (lane == 0) stays[r] = stay, room = more - __popc(stay);
    }
    __syncthreads();
    if (v > r && v < words) gone |= or_over_warp(stays[r] >> lane & 1 ? mine : 0);
  }

  int before = 0;
  for (int u = 0; u < v; ++u) before += __popc(stays[u]);
  const uint32_t word = stays[v];
  if (word >> lane & 1) {
    const int64_t at = kept + before + __popc(word & ((1u << lane) - 1)), row = p.row_at(image, begin + i);
    p.indices[image * p.max_output + at] = row;
    if (w.kept != nullptr) {
      w.kept[slot * w.capacity + at] = p.box(image, row);
      w.kept_groups[slot * w.capacity + at] = p.group(image, row);
    }
  }
  if (lane == 0 && w.kept != nullptr) w.suppressed[slot * kWords + v] = 0;
  if (i == kChunk - 1) p.counts[image] = kept + before + __popc(word);
}

// Sets p.indices and p.counts, given p.order and p.competitors.
template <typename T> void suppress(const OnDevice& on, const Tensor& like, const Problem<T>& p) {
  using C = compute_t<T>;
  ChunkWorkspace<C> w{};
  w.chunk = p.rows < kChunk ? int(ceil_div(p.rows, 32) * 32) : kChunk;
  w.words = w.chunk / 32;
  const int64_t matrix_bytes = int64_t(w.words) * w.chunk * 4;
  int64_t batch = kMatrixBytes / matrix_bytes;
  batch = p.images < batch ? p.images : batch;
  batch = batch < kMaxBlocks ? batch : kMaxBlocks;
  const Tensor matrix = scratch_bytes(like, batch * matrix_bytes);
  w.matrix = mutable_data<uint32_t>(matrix);
  Tensor kept, kept_groups, suppressed;
  if (p.rows > w.chunk) {
    suppressed = scratch_bytes(like, batch * kWords * 4);
    w.suppressed = mutable_data<uint32_t>(suppressed);
    set_bytes(on, w.suppressed, 0, batch * kWords * 4);
    w.capacity = p.rows < p.max_output ? p.rows : p.max_output;
    kept = scratch_bytes(like, batch * w.capacity * int64_t(sizeof(Box<C>)));
    kept_groups = scratch_bytes(like, batch * w.capacity * 8);
    w.kept = mutable_data<Box<C>>(kept), w.kept_groups = mutable_data<int64_t>(kept_groups);
  }

  const int64_t inner = ceil_div(w.words * w.words, kCompareWarps), parts = kChunk / kCompareThreads;
  for (int64_t first = 0; first < p.images; first += batch) {
    const int64_t images = p.images - first < batch ? p.images - first : batch;
    for (int64_t begin = 0; begin < p.rows; begin += w.chunk) {
      const int64_t most = begin < w.capacity ? begin : w.capacity, runs = ceil_div(most, kCompareThreads);
      const int64_t splits = runs < kMaxSplits ? runs : kMaxSplits;
      const dim3 grid(unsigned(inner + parts * splits), unsigned(images));
      launch(on, &compare<T>, grid, kCompareThreads, p, w, first, begin, splits);
      launch(on, &settle_chunk<T>, unsigned(images), kChunk, p, w, first, begin);
    }
  }
}

}  // namespace pyrcnn::nms
