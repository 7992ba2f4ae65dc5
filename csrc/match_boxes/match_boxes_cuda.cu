// Two launches. The first finds every anchor's best ground truth, and every ground truth's best IoU: an atomic integer
// maximum over the bits of non-negative numbers, which orders them as numbers, whatever the order of execution. The
// second, if low quality is allowed, makes the anchors with that IoU foreground.
#include "common/cuda/cuda.cuh"
#include "common/cuda/warp.cuh"
#include "match_boxes_check.h"

namespace pyrcnn::match_boxes {
namespace {

constexpr int kTruthsAtOnce = 128;  // ground truth of an image in shared memory at a time
constexpr int64_t kMaxGridY = 65535;

template <typename C> struct Bits;
template <> struct Bits<float> {
  using type = unsigned;
};
template <> struct Bits<double> {
  using type = unsigned long long;
};

template <typename T> struct Arguments {
  using C = compute_t<T>;
  const T* anchors;
  const T* truths;
  const int64_t* counts;  // or nullptr
  const bool* crowd;      // or nullptr
  int64_t* matches;
  int8_t* states;
  C* ious;
  typename Bits<C>::type* best;  // [N, G] bits of the best IoU, 0 at first; nullptr where low quality is not allowed
  Sizes sizes;
  C high, low, crowd_share;

  __device__ int64_t count(int64_t n) const {
    const int64_t all = sizes.truths;
    return counts == nullptr ? all : clamp(counts[n], int64_t{0}, all);
  }
  __device__ Box<C> anchor(int64_t n, int64_t i) const {
    const T* a = anchors + 4 * (sizes.shared_anchors ? i : n * sizes.anchors + i);
    return {C(a[0]), C(a[1]), C(a[2]), C(a[3])};
  }
};

// A part of one image's ground truth. All threads of the block call load().
template <typename C> struct SharedTruths {
  Box<C> boxes[kTruthsAtOnce];
  C areas[kTruthsAtOnce];
  bool crowd[kTruthsAtOnce];

  template <typename T> __device__ void load(const Arguments<T>& args, int64_t n, int64_t first, int64_t count) {
    __syncthreads();  // all have read the last part
    for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      const int64_t g = n * args.sizes.truths + first + k;
      const T* t = args.truths + 4 * g;
      boxes[k] = {C(t[0]), C(t[1]), C(t[2]), C(t[3])};
      areas[k] = area(boxes[k]);
      crowd[k] = args.crowd != nullptr && args.crowd[g];
    }
    __syncthreads();
  }
};

template <typename T> __global__ void __launch_bounds__(kThreads) best_truths(const Arguments<T> args) {
  using C = compute_t<T>;
  __shared__ SharedTruths<C> shared;
  const int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  const bool inside = i < args.sizes.anchors;  // the others take part in barriers and shuffles
  for (int64_t n = blockIdx.y; n < args.sizes.images; n += gridDim.y) {
    const int64_t count = args.count(n);
    const Box<C> box = inside ? args.anchor(n, i) : Box<C>{C(0), C(0), C(0), C(0)};
    const C size = area(box);
    C best = C(0);
    int64_t match = 0;
    bool any_truth = false, crowded = false;
    for (int64_t first = 0; first < count; first += kTruthsAtOnce) {
      const int64_t in_part = lower(count - first, int64_t(kTruthsAtOnce));
      shared.load(args, n, first, in_part);
      for (int64_t k = 0; k < in_part; ++k) {
        if (shared.crowd[k]) {  // the same in all threads
          crowded = crowded || in_crowd(box, size, shared.boxes[k], args.crowd_share);
          continue;
        }
        any_truth = true;
        const C value = iou(shared.boxes[k], box, shared.areas[k], size);
        if (value > best) best = value, match = first + k;
        if (args.best == nullptr || !__any_sync(kFullWarp, value > C(0))) continue;
        const C greatest = greatest_over_warp(higher(value, C(0)));
        if (threadIdx.x % 32 == 0) {
          atomicMax(args.best + n * args.sizes.truths + first + k, bit_cast<typename Bits<C>::type>(greatest));
        }
      }
    }
    if (!inside) continue;
    const int64_t at = n * args.sizes.anchors + i;
    // Without ground truth every anchor is background, whatever the thresholds.
    int state = any_truth ? match_boxes::state<int>(best, args.high, args.low) : 0;
    if (state == 0 && crowded) state = -1;
    args.matches[at] = match, args.states[at] = int8_t(state), args.ious[at] = best;
  }
}

template <typename T> __global__ void __launch_bounds__(kThreads, 1) claim(const Arguments<T> args) {
  using C = compute_t<T>;
  __shared__ SharedTruths<C> shared;
  __shared__ C
      claimed_at[kTruthsAtOnce];  // the IoU with which a ground truth claims anchors; infinity if it claims none
  const int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  const bool inside = i < args.sizes.anchors;
  for (int64_t n = blockIdx.y; n < args.sizes.images; n += gridDim.y) {
    const int64_t count = args.count(n);
    const Box<C> box = inside ? args.anchor(n, i) : Box<C>{C(0), C(0), C(0), C(0)};
    const C size = area(box), best = inside ? args.ious[n * args.sizes.anchors + i] : C(0);
    bool claimed = false;
    for (int64_t first = 0; first < count; first += kTruthsAtOnce) {
      const int64_t in_part = lower(count - first, int64_t(kTruthsAtOnce));
      shared.load(args, n, first, in_part);
      for (int64_t k = threadIdx.x; k < in_part; k += kThreads) {
        const C value = bit_cast<C>(args.best[n * args.sizes.truths + first + k]);
        claimed_at[k] = !shared.crowd[k] && claims(value, args.high) ? value : C(HUGE_VAL);
      }
      __syncthreads();
      for (int64_t k = 0; k < in_part; ++k) {
        if (best >= claimed_at[k] && iou(shared.boxes[k], box, shared.areas[k], size) == claimed_at[k]) claimed = true;
      }
    }
    if (inside && claimed) args.states[n * args.sizes.anchors + i] = 1;
  }
}

Results cuda(const Tensor& anchors, const Tensor& truths, const MaybeTensor& counts, const MaybeTensor& crowd,
             double high, double low, bool allow_low_quality, double crowd_threshold) {
  const Sizes sizes = check_arguments(anchors, truths, counts, crowd, high, low, crowd_threshold);
  const OnDevice on(truths);
  Results results = allocate(truths, sizes);
  auto& [matches, states, ious] = results;
  const Tensor a = as_contiguous(anchors), t = as_contiguous(truths);
  const Tensor c = counts ? as_contiguous(*counts) : a, w = crowd ? as_contiguous(*crowd) : a;
  if (sizes.images == 0 || sizes.anchors == 0) return results;
  const int64_t rows = lower(sizes.images, kMaxGridY);
  const dim3 grid(unsigned(ceil_div(sizes.anchors, kThreads)), unsigned(rows));
  dispatch_floating(truths, "ground_truth", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    using B = typename Bits<C>::type;
    Tensor best = torch::stable::new_empty(truths, {allow_low_quality ? sizes.images * sizes.truths : 0},
                                           sizeof(B) == 8 ? ScalarType::Long : ScalarType::Int);
    const Arguments<T> args{data<T>(a),
                            data<T>(t),
                            counts ? data<int64_t>(c) : nullptr,
                            crowd ? data<bool>(w) : nullptr,
                            mutable_data<int64_t>(matches),
                            mutable_data<int8_t>(states),
                            mutable_data<C>(ious),
                            allow_low_quality ? mutable_data<B>(best) : nullptr,
                            sizes,
                            C(high),
                            C(low),
                            C(crowd_threshold)};
    if (best.numel() > 0) {
      STD_CUDA_CHECK(cudaMemsetAsync(args.best, 0, size_t(best.numel()) * sizeof(B), on.stream));
    }
    launch(on, &best_truths<T>, grid, kThreads, args);
    if (!allow_low_quality || sizes.truths == 0) return;
    launch(on, &claim<T>, grid, kThreads, args);
  });
  return results;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("match_boxes", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::match_boxes
