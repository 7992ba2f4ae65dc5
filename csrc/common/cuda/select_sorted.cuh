// Selects the best of many scores and sorts them, by one thread block in shared memory. heatmap_peaks/select_radix.cuh
// selects without sorting.
#pragma once
#include "common/math/score_key.h"
#include "cuda.cuh"
#include "warp.cuh"

namespace pyrcnn {

// The key of a score, and the row that has the score. number() orders rows by descending score, equal scores by lower
// row; that of last() is greater than every other.
template <typename C> struct ScoredRow;
template <> struct ScoredRow<float> {
  using Number = uint64_t;
  uint64_t word;
  static __device__ ScoredRow of_key(uint32_t key, uint32_t row) { return {uint64_t(key) << 32 | row}; }
  static __device__ ScoredRow of(float score, uint32_t row) { return of_key(descending_key(score), row); }
  static __device__ ScoredRow of_number(Number number) { return {number}; }
  static __device__ ScoredRow last() { return {UINT64_MAX}; }
  __device__ uint64_t number() const { return word; }
  __device__ uint32_t key() const { return uint32_t(word >> 32); }
  __device__ uint32_t row() const { return uint32_t(word); }
};
template <> struct ScoredRow<double> {
  using Number = unsigned __int128;
  uint64_t word, position;
  static __device__ ScoredRow of_key(uint64_t key, uint32_t row) { return {key, row}; }
  static __device__ ScoredRow of(double score, uint32_t row) { return of_key(descending_key(score), row); }
  static __device__ ScoredRow of_number(Number number) { return {uint64_t(number >> 32), uint32_t(number)}; }
  static __device__ ScoredRow last() { return {UINT64_MAX, UINT32_MAX}; }
  __device__ Number number() const { return Number(word) << 32 | position; }
  __device__ uint64_t key() const { return word; }
  __device__ uint32_t row() const { return uint32_t(position); }
};
template <typename C> using ScoredRowNumber = typename ScoredRow<C>::Number;

// So many are selected at most, limited by shared memory: 4096 for float, 2048 for double.
template <typename C> constexpr int kMostSelected = 32768 / int(sizeof(ScoredRow<C>));

// The least power of two that is not less than n.
PYRCNN_HD int power_of_two(int n) {
  int size = 1;
  while (size < n) size *= 2;
  return size;
}

// A bitonic sort by all threads of the block; `size` is a power of two. Barriers before and after.
template <typename C> __device__ void sort_in_block(ScoredRow<C>* entries, int size) {
  __syncthreads();
  for (int run = 2; run <= size; run *= 2) {
    for (int stride = run / 2; stride > 0; stride /= 2) {
      for (int i = int(threadIdx.x); i < size / 2; i += int(blockDim.x)) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const bool ascending = (low & run) == 0;
        const ScoredRow<C> a = entries[low], b = entries[high];
        if ((b.number() < a.number()) == ascending) entries[low] = b, entries[high] = a;
      }
      __syncthreads();
    }
  }
}

// A number in [low, high] that at least `enough` and at most `most` things are less than. before(number) counts the
// things that are less and returns the same in all threads. Returns `high` if no number satisfies this.
template <typename N, typename F>
__device__ N find_bound(N low, N high, int64_t enough, int64_t most, const F& before) {
  while (high - low > 1) {
    const N middle = low + (high - low) / 2;
    const int64_t n = before(middle);
    if (n < enough) low = middle;
    else if (n <= most) return middle;
    else high = middle;
  }
  return high;
}

template <typename C> struct SelectedRows {
  ScoredRow<C> entries[kMostSelected<C>];
  int sums[32];
  int size;
};

// Selects from those of get(0) ... get(count - 1) whose numbers lie in [from, end): all of them if there is room, else
// the best, at least `enough` (< kMostSelected) of them. Stores them in s.entries in order and returns how many; lowers
// `end` to a number greater than theirs and no greater than that of any other. Numbers are distinct. All threads of the
// block call this.
template <typename C, typename Get>
__device__ int select_sorted(SelectedRows<C>& s, int64_t count, ScoredRowNumber<C> from, ScoredRowNumber<C>& end,
                             int enough, const Get& get) {
  using Number = ScoredRowNumber<C>;
  const auto before = [&](Number bound) {
    int own = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
      const Number number = get(i).number();
      own += number >= from && number < bound;
    }
    return sum_over_block(own, s.sums);
  };
  if (count > kMostSelected<C> && before(end) > kMostSelected<C>)
    end = find_bound<Number>(from, end, enough, kMostSelected<C>, before);
  if (threadIdx.x == 0) s.size = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    const ScoredRow<C> entry = get(i);
    const Number number = entry.number();
    if (number >= from && number < end) s.entries[atomicAdd(&s.size, 1)] = entry;  // in any order
  }
  __syncthreads();
  const int size = s.size, padded = power_of_two(size);
  for (int i = size + int(threadIdx.x); i < padded; i += int(blockDim.x)) s.entries[i] = ScoredRow<C>::last();
  sort_in_block(s.entries, padded);
  return size;
}

}  // namespace pyrcnn
