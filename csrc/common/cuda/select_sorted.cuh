// The best of many scores, in order, by one thread block in shared memory.
#pragma once
#include "cuda.cuh"
#include "common/simd/sort.h"

namespace pyrcnn::nms {

constexpr unsigned kFullWarp = 0xffffffffu;

// A score's key and the row it stands for, compared as one number: descending score, ties by lower row. `last()`
// follows every score's.
template <typename C> struct Entry;
template <> struct Entry<float> {
  using Number = uint64_t;
  uint64_t word;
  static __device__ Entry of_key(uint32_t key, uint32_t row) { return {uint64_t(key) << 32 | row}; }
  static __device__ Entry of(float score, uint32_t row) { return of_key(descending_key(score), row); }
  static __device__ Entry of_number(Number number) { return {number}; }
  static __device__ Entry last() { return {UINT64_MAX}; }
  __device__ uint64_t number() const { return word; }
  __device__ uint32_t key() const { return uint32_t(word >> 32); }
  __device__ uint32_t row() const { return uint32_t(word); }
};
template <> struct Entry<double> {
  using Number = unsigned __int128;
  uint64_t word, position;
  static __device__ Entry of_key(uint64_t key, uint32_t row) { return {key, row}; }
  static __device__ Entry of(double score, uint32_t row) { return of_key(descending_key(score), row); }
  static __device__ Entry of_number(Number number) { return {uint64_t(number >> 32), uint32_t(number)}; }
  static __device__ Entry last() { return {UINT64_MAX, UINT32_MAX}; }
  __device__ Number number() const { return Number(word) << 32 | position; }
  __device__ uint64_t key() const { return word; }
  __device__ uint32_t row() const { return uint32_t(position); }
};
template <typename C> using EntryNumber = typename Entry<C>::Number;

// What fits into shared memory: 4096 for float, 2048 for double.
template <typename C> constexpr int kEntries = 32768 / int(sizeof(Entry<C>));

PYRCNN_HD int power_of_two(int n) {  // that is not less
  int size = 1;
  while (size < n) size *= 2;
  return size;
}

// Bitonic, by all threads of the block; `size` is a power of two. Barriers before and after.
template <typename C> __device__ void sort_in_block(Entry<C>* entries, int size) {
  __syncthreads();
  for (int run = 2; run <= size; run *= 2) {
    for (int stride = run / 2; stride > 0; stride /= 2) {
      for (int i = int(threadIdx.x); i < size / 2; i += int(blockDim.x)) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const bool ascending = (low & run) == 0;
        const Entry<C> a = entries[low], b = entries[high];
        if ((b.number() < a.number()) == ascending) entries[low] = b, entries[high] = a;
      }
      __syncthreads();
    }
  }
}

// The sum of all threads' numbers, in all threads. `shared`: one number per warp. Barriers inside and after.
__device__ inline int sum_over_block(int x, int* shared) {
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), warps = int(blockDim.x / 32);
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < warps ? shared[lane] : 0;
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  __syncthreads();
  return x;
}

// A number between `low` and `high` (both included) such that at least `enough` and at most `most` things are before
// it, where before(number) counts them, in all threads alike; `low` where there are none, `high` where no number does.
template <typename N, typename F> __device__ N search(N low, N high, int64_t enough, int64_t most, const F& before) {
  while (high - low > 1) {
    const N middle = low + (high - low) / 2;
    const int64_t n = before(middle);
    if (n < enough) low = middle;
    else if (n <= most) return middle;
    else high = middle;
  }
  return high;
}

template <typename C> struct Shortlist {
  Entry<C> entries[kEntries<C>];
  int sums[32];
  int size;
};

// Brings the best of get(0) ... get(count - 1) that are not before `from` nor from `end` on into s.entries, in order:
// all of them where they fit, else at least `enough` (< kEntries). Returns how many, and in `end` the number that they
// are before. Numbers are distinct. Called by all threads of the block.
template <typename C, typename Get>
__device__ int shortlist(Shortlist<C>& s, int64_t count, EntryNumber<C> from, EntryNumber<C>& end, int enough,
                         const Get& get) {
  using Number = EntryNumber<C>;
  const auto before = [&](Number bound) {
    int own = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
      const Number number = get(i).number();
      own += number >= from && number < bound;
    }
    return sum_over_block(own, s.sums);
  };
  if (count > kEntries<C> && before(end) > kEntries<C>) end = search<Number>(from, end, enough, kEntries<C>, before);
  if (threadIdx.x == 0) s.size = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    const Entry<C> entry = get(i);
    const Number number = entry.number();
    if (number >= from && number < end) s.entries[atomicAdd(&s.size, 1)] = entry;  // in any order
  }
  __syncthreads();
  const int size = s.size, padded = power_of_two(size);
  for (int i = size + int(threadIdx.x); i < padded; i += int(blockDim.x)) s.entries[i] = Entry<C>::last();
  sort_in_block(s.entries, padded);
  return size;
}

}  // namespace pyrcnn::nms
