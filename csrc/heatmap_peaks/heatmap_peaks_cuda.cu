// Two launches; the host does not wait. `scan` has a block per part of a map, which keeps the k best peaks of its part.
// `finish` has a block per map, which selects the k best of all its parts and sorts them. Lists are filled in any
// order, but selection and sorting follow a total order, so the result is the same every time.
#include "common/cuda/cuda.cuh"
#include "find_peaks.h"
#include "select_radix.cuh"

namespace pyrcnn::heatmap_peaks {
namespace {

constexpr int kScanThreads = 512, kCellsPerThread = 4, kCellsPerStep = kScanThreads * kCellsPerThread;
constexpr int64_t kPart = 4 * kCellsPerStep;
constexpr int kFinishThreads = 1024;
constexpr int64_t kMostRows = 65535;

// The arguments. A map is an image, or if per_class one channel of an image.
template <typename T> struct Plan {
  using C = compute_t<T>;
  Map<T> first;  // of the first image
  int64_t k, maps, parts, capacity, cells;
  bool per_class;
  C lowest;              // the least score that matters, or 0
  Candidate<C>* lists;   // [maps, parts, capacity]
  unsigned* counts;      // [maps, parts]
  Candidate<C>* chosen;  // [maps, k]
  C* scores;
  int64_t *classes, *ys, *xs;  // [maps, k]

  __device__ Map<T> map(int64_t m) const {
    Map<T> map = first;
    map.values += (per_class ? m / map.channels : m) * map.channels * map.height * map.width;
    return map;
  }
  // The position in memory of the i-th value of a map.
  __device__ int64_t position(int64_t m, int64_t i) const {
    if (!per_class) return i;
    const int64_t channel = m % first.channels;
    return first.channels_last ? i * first.channels + channel : channel * cells + i;
  }
};

// Moves the candidates that reach `bound` to the front, in place: every batch is read before any of it is overwritten.
template <typename C> __device__ void keep(Candidate<C>* list, int64_t count, const PeakKey& bound, unsigned& kept) {
  if (threadIdx.x == 0) kept = 0;
  for (int64_t base = 0; base < count; base += blockDim.x) {
    const int64_t i = base + threadIdx.x;
    const Candidate<C> candidate = i < count ? list[i] : Candidate<C>{C(0), 0};
    __syncthreads();
    if (candidate.score > 0 && reaches(key_of(candidate), bound)) list[atomicAdd(&kept, 1u)] = candidate;
  }
  __syncthreads();
}

template <typename T> __global__ void __launch_bounds__(kScanThreads, 1) scan(const __grid_constant__ Plan<T> plan) {
  using C = compute_t<T>;
  __shared__ RadixSelection selection;
  __shared__ unsigned count;
  const unsigned k = unsigned(lower(plan.k, kPart));
  for (int64_t m = blockIdx.y; m < plan.maps; m += gridDim.y) {
    const Map<T> map = plan.map(m);
    const int64_t part = blockIdx.x, begin = part * kPart, end = lower(begin + kPart, plan.cells);
    Candidate<C>* list = plan.lists + (m * plan.parts + part) * plan.capacity;
    C floor = map.logits ? C(-INFINITY) : C(0);
    if (plan.lowest > 0) floor = floor_of(plan.lowest, map.logits);
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    const auto cut = [&](unsigned size) {  // to the k best
      const PeakKey bound = select_radix<C>(selection, k, [&](const auto& count_in) {
        for (unsigned i = threadIdx.x; i < size; i += kScanThreads) count_in(list[i]);
      });
      keep(list, size, bound, count);
      floor = floor_of(score_of<C>(bound), map.logits);
    };
    for (int64_t base = begin; base < end; base += kCellsPerStep) {
#pragma unroll
      for (int r = 0; r < kCellsPerThread; ++r) {
        const int64_t i = base + r * kScanThreads + threadIdx.x;
        if (i >= end) continue;
        const int64_t position = plan.position(m, i);
        if (!(C(map.values[position]) >= floor)) continue;
        const Candidate<C> candidate = map.judge(position);
        if (candidate.score > 0) list[atomicAdd(&count, 1u)] = candidate;
      }
      __syncthreads();
      const unsigned size = count;
      __syncthreads();  // all have read it
      if (size > k && size + kCellsPerStep > plan.capacity) cut(size);
    }
    const unsigned size = count;
    __syncthreads();
    if (size > k) cut(size);
    if (threadIdx.x == 0) plan.counts[m * plan.parts + part] = lower(size, k);
    __syncthreads();  // before the next map's count
  }
}

template <typename T>
__global__ void __launch_bounds__(kFinishThreads, 1) finish(const __grid_constant__ Plan<T> plan) {
  using C = compute_t<T>;
  __shared__ RadixSelection selection;
  __shared__ unsigned total, found;
  for (int64_t m = blockIdx.x; m < plan.maps; m += gridDim.x) {
    if (threadIdx.x == 0) total = 0, found = 0;
    __syncthreads();
    const unsigned* counts = plan.counts + m * plan.parts;
    for (int64_t part = threadIdx.x; part < plan.parts; part += blockDim.x) atomicAdd(&total, counts[part]);
    __syncthreads();
    const auto visit = [&](const auto& f) {  // a warp per part
      for (int64_t part = threadIdx.x / 32; part < plan.parts; part += kFinishThreads / 32) {
        const Candidate<C>* list = plan.lists + (m * plan.parts + part) * plan.capacity;
        for (unsigned i = threadIdx.x % 32; i < counts[part]; i += 32) f(list[i]);
      }
    };
    PeakKey bound{0, 0};
    if (total > plan.k) bound = select_radix<C>(selection, unsigned(plan.k), visit);
    Candidate<C>* chosen = plan.chosen + m * plan.k;
    visit([&](const Candidate<C>& candidate) {
      if (reaches(key_of(candidate), bound)) chosen[atomicAdd(&found, 1u)] = candidate;
    });
    __syncthreads();
    const int64_t channels = plan.first.channels, width = plan.first.width;
    for (int64_t j = threadIdx.x; j < plan.k; j += blockDim.x) {
      Candidate<C> own{C(0), 0};
      int64_t place = j;
      if (j < found) {  // in order: as many are before it as are better
        own = chosen[j], place = 0;
        for (int64_t i = 0; i < found; ++i) place += better(chosen[i], own);
      }
      const int64_t to = m * plan.k + place, cell = quotient(own.rank, channels), y = quotient(cell, width);
      plan.scores[to] = own.score;
      plan.classes[to] = plan.per_class ? m % channels : own.rank - cell * channels;
      plan.ys[to] = y, plan.xs[to] = cell - y * width;
    }
    __syncthreads();  // before `total` and `found` are reset
  }
}

template <typename T> void run(const OnDevice& on, const Tensor& maps, const Options& o, const Peaks& peaks) {
  using C = compute_t<T>;
  const int64_t n = maps.size(0), channels = maps.size(1), area = maps.size(2) * maps.size(3);
  Plan<T> plan{};
  plan.first = map_of<T>(maps, o), plan.k = o.k, plan.per_class = o.per_class, plan.lowest = C(o.lowest);
  plan.maps = o.per_class ? n * channels : n, plan.cells = o.per_class ? area : channels * area;
  plan.parts = ceil_div(plan.cells, kPart);
  plan.capacity = lower(kPart, plan.k + 3 * kCellsPerStep);
  const auto scratch = [&](int64_t count, int64_t size) {
    return torch::stable::new_empty(maps, {count * size}, ScalarType::Byte);
  };
  const Tensor lists = scratch(plan.maps * plan.parts * plan.capacity, sizeof(Candidate<C>));
  const Tensor counts = scratch(plan.maps * plan.parts, sizeof(unsigned));
  const Tensor chosen = scratch(plan.maps * plan.k, sizeof(Candidate<C>));
  plan.lists = mutable_data<Candidate<C>>(lists), plan.counts = mutable_data<unsigned>(counts);
  plan.chosen = mutable_data<Candidate<C>>(chosen);
  plan.scores = mutable_data<C>(peaks.scores), plan.classes = mutable_data<int64_t>(peaks.classes);
  plan.ys = mutable_data<int64_t>(peaks.ys), plan.xs = mutable_data<int64_t>(peaks.xs);
  launch(on, &scan<T>, dim3(unsigned(plan.parts), unsigned(lower(plan.maps, kMostRows))), kScanThreads, plan);
  launch(on, &finish<T>, unsigned(lower(plan.maps, kMaxBlocks)), kFinishThreads, plan);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cuda(const Tensor& heatmap, int64_t k, int64_t kernel, bool sigmoid,
                                                double tolerance, bool per_class) {
  const Peaks peaks = find_peaks(heatmap, {k, kernel, sigmoid, tolerance, per_class});
  return {peaks.scores, peaks.classes, peaks.ys, peaks.xs};
}

}  // namespace

Peaks find_peaks(const Tensor& heatmap, const Options& options) {
  Peaks peaks = check_and_allocate(heatmap, options);
  check(heatmap.dim() == 4 && (heatmap.numel() == 0 || heatmap.numel() / heatmap.size(0) < (int64_t(1) << 32)),
        "heatmap must have fewer than 2^32 cells per image, got ", shape(heatmap));
  const OnDevice on(heatmap);
  if (peaks.scores.numel() == 0) return peaks;
  if (heatmap.numel() == 0) {
    for (Tensor* t : {&peaks.scores, &peaks.classes, &peaks.ys, &peaks.xs}) torch::stable::zero_(*t);
    return peaks;
  }
  const Tensor maps = dense(heatmap);
  dispatch_floating(maps, "heatmap", [&](auto type) { run<typename decltype(type)::type>(on, maps, options, peaks); });
  return peaks;
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("heatmap_peaks", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::heatmap_peaks
