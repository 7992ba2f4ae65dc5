// Every row gets as many slots as classes can exceed the threshold at once (their scores sum to 1). Half a warp fills
// the slots of one row with scores and decoded boxes; the slots are ordered and suppressed as nms does it, and one warp
// per image writes the first max_detections. All shapes are known beforehand, so one CUDA graph holds it.
#include "../nms/nms_order.cuh"
#include "../nms/nms_suppress.cuh"
#include "roi_detections_check.h"

namespace pyrcnn::roi_detections {
namespace {

using nms::kFullWarp;
using nms::scratch_bytes;

template <typename T> struct Batch {
  using C = compute_t<T>;
  Head<C> head;
  Cut<C> cut;
  const T* logits;  // [images, rows, columns]
  Numbers counts, sizes;
  int64_t images, rows, columns, background, slots, most, most_per_class, kept_most;
  C min_size;
  bool clip_first, capped;
  C* boxes;               // [images, rows * slots, 4]
  C* scores;              // [images, rows * slots]; -1: empty
  int64_t* labels;        // [images, rows * slots]
  int64_t* kept;          // [images, kept_most], slots by descending score
  int64_t* kept_counts;   // [images]
  int32_t* class_counts;  // [images, classes], zero at first; null without a cap
  C* out_boxes;
  C* out_scores;
  int64_t* out_labels;
  int64_t* out_counts;
};

// The same for the 16 lanes of a row. xor keeps to the half, and a sum does not depend on the order of its two terms,
// so the result has the bits of the CPU's.
template <typename C> __device__ C sum_over_row(C x) {
  for (int step = kSums / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}
template <typename C> __device__ C greatest_over_row(C x) {
  for (int step = kSums / 2; step > 0; step /= 2) x = higher(C(__shfl_xor_sync(kFullWarp, x, step)), x);
  return x;
}

// Lane j of a half warp has the columns j, j + 16, ... of its row. Both halves run the same number of steps.
template <typename T> __global__ void __launch_bounds__(kThreads) fill_slots(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  const int lane = int(threadIdx.x % 32), part = lane % kSums, shift = lane - part;
  const int64_t total = b.images * b.rows, row = blockIdx.x * int64_t(kThreads / kSums) + threadIdx.x / kSums;
  const int64_t image = row < total ? row / b.rows : 0, r = row < total ? row % b.rows : 0;
  const bool real = row < total && r < b.counts.template at<int64_t>(image);
  const T* logits = b.logits + (image * b.rows + r) * b.columns;

  C foreground = C(-INFINITY);
  for (int64_t c = part; c < b.columns; c += kSums)
    if (real && c != b.background) foreground = higher(C(logits[c]), foreground);
  foreground = greatest_over_row(foreground);
  const C most = higher(foreground, real ? C(logits[b.background]) : C{});
  C sum{};
  for (int64_t c = part; c < b.columns; c += kSums)
    if (real) sum += exp_of(C(logits[c]) - most);
  sum = sum_over_row(sum);

  const C bound = b.cut.bound(sum);
  const bool hopeless = !real || b.cut.hopeless(foreground, most);
  const Window<C> window =
      first_window(b.clip_first, b.sizes.template at<C>(2 * image), b.sizes.template at<C>(2 * image + 1), b.min_size);
  const int64_t first_slot = (image * b.rows + r) * b.slots;
  int64_t filled = 0;  // the same in all lanes of the half
  for (int64_t start = 0; start < b.columns; start += kSums) {
    const int64_t c = start + part;
    C score{};
    bool hit = false;
    if (!hopeless && c < b.columns && c != b.background) {
      const C e = exp_of(C(logits[c]) - most);
      score = e / sum;
      hit = e > bound && score > b.cut.threshold;
    }
    const uint32_t hits = __ballot_sync(kFullWarp, hit) >> shift & 0xffff;
    const int64_t slot = filled + __popc(hits & ((1u << part) - 1));
    if (hit && slot < b.slots) {
      const uint32_t label = uint32_t(c - (c > b.background));
      const AnchorDelta<C> one = anchor_delta(b.head, image, uint32_t(r) * uint32_t(b.columns - 1) + label);
      Box<C> box = decode(one.anchor, one.delta, b.head.cap);
      const bool fits = fit(box, window);
      C* to = b.boxes + 4 * (first_slot + slot);
      to[0] = box.x1, to[1] = box.y1, to[2] = box.x2, to[3] = box.y2;
      b.scores[first_slot + slot] = fits ? score : C(-1);
      b.labels[first_slot + slot] = label;
    }
    filled += __popc(hits);
  }
  if (row >= total) return;
  for (int64_t slot = filled + part; slot < b.slots; slot += kSums) b.scores[first_slot + slot] = C(-1);
}

// One warp per image takes the kept slots 32 at a time, in order.
template <typename T> __global__ void __launch_bounds__(32) finish(const __grid_constant__ Batch<T> b) {
  using C = compute_t<T>;
  const int lane = int(threadIdx.x);
  const uint32_t lower_lanes = (1u << lane) - 1;
  const int64_t image = blockIdx.x, count = b.kept_counts[image], first_slot = image * b.rows * b.slots;
  const C height = b.sizes.template at<C>(2 * image), width = b.sizes.template at<C>(2 * image + 1);
  C *boxes = b.out_boxes + 4 * image * b.most, *scores = b.out_scores + image * b.most;
  int64_t* labels = b.out_labels + image * b.most;
  int64_t chosen = 0, written = 0;  // the same in all lanes
  for (int64_t start = 0; start < count && chosen < b.most; start += 32) {
    const bool there = start + lane < count;
    const int64_t slot = first_slot + (there ? b.kept[image * b.kept_most + start + lane] : 0);
    const int64_t label = b.labels[slot];
    bool allowed = there;
    if (b.capped) {
      int32_t* of_class = b.class_counts + image * (b.columns - 1);
      const uint32_t same = __match_any_sync(kFullWarp, (unsigned long long)(there ? label : -1));
      const int64_t before = there ? of_class[label] + __popc(same & lower_lanes) : 0;
      allowed = there && before < b.most_per_class;
      __syncwarp();  // all have read
      if (there && (same & lower_lanes) == 0) of_class[label] += __popc(same);
      __syncwarp();
    }
    const uint32_t all = __ballot_sync(kFullWarp, allowed);
    bool good = allowed && chosen + __popc(all & lower_lanes) < b.most;
    Box<C> box{};
    if (good) {
      const C* from = b.boxes + 4 * slot;
      box = {from[0], from[1], from[2], from[3]};
      good = b.clip_first || fit_last(box, height, width, b.min_size);
    }
    const uint32_t goods = __ballot_sync(kFullWarp, good);
    if (good) {
      const int64_t at = written + __popc(goods & lower_lanes);
      boxes[4 * at] = box.x1, boxes[4 * at + 1] = box.y1, boxes[4 * at + 2] = box.x2, boxes[4 * at + 3] = box.y2;
      scores[at] = b.scores[slot];
      labels[at] = label;
    }
    chosen += __popc(all), written += __popc(goods);
  }
  for (int64_t at = written + lane; at < b.most; at += 32) {
    for (int side = 0; side < 4; ++side) boxes[4 * at + side] = C{};
    scores[at] = C{};
    labels[at] = -1;
  }
  if (lane == 0) b.out_counts[image] = written;
}

// How many classes can exceed the threshold in one row, with room for the rounding of their scores.
template <typename C> int64_t slots_of(const Cut<C>& cut, int64_t classes) {
  const double most = cut.threshold > C{} ? 1.0001 / double(cut.threshold) + 1 : double(classes);
  return most < double(classes) ? int64_t(most) : classes;
}

template <typename T> void run(const OnDevice& on, const Arguments& a, const Outputs& to) {
  using C = compute_t<T>;
  const Tensor& like = a.class_logits;
  Batch<T> b{};
  b.head = head<C>(a), b.cut = cut<C>(a), b.logits = data<T>(a.class_logits);
  b.counts = numbers(a.counts, "counts"), b.sizes = numbers(a.image_sizes, "image_sizes");
  if (a.images == 0) return;
  b.images = a.images, b.rows = a.rows, b.columns = a.columns, b.background = a.background;
  b.slots = slots_of(b.cut, a.columns - 1);
  b.most = a.max_detections, b.most_per_class = a.max_per_class, b.capped = a.max_per_class < a.max_detections;
  b.min_size = C(a.min_size), b.clip_first = a.clip_first;
  b.out_boxes = mutable_data<C>(to.boxes), b.out_scores = mutable_data<C>(to.scores);
  b.out_labels = mutable_data<int64_t>(to.labels), b.out_counts = mutable_data<int64_t>(to.counts);
  const int64_t per_image = b.rows * b.slots, total = b.images * per_image;
  // Under a cap, boxes beyond a class's limit are kept at first: they suppress only others that are beyond it too.
  b.kept_most = b.capped || per_image < b.most ? per_image : b.most;

  const Tensor boxes = scratch_bytes(like, 4 * int64_t(sizeof(C)) * total);
  const Tensor scores = scratch_bytes(like, int64_t(sizeof(C)) * total), labels = scratch_bytes(like, 8 * total);
  const Tensor kept = scratch_bytes(like, 8 * b.images * b.kept_most), kept_counts = scratch_bytes(like, 8 * b.images);
  const Tensor order = scratch_bytes(like, 4 * total), competitors = scratch_bytes(like, 8 * b.images);
  const Tensor class_counts = scratch_bytes(like, b.capped ? 4 * b.images * (b.columns - 1) : 0);
  b.boxes = mutable_data<C>(boxes), b.scores = mutable_data<C>(scores), b.labels = mutable_data<int64_t>(labels);
  b.kept = mutable_data<int64_t>(kept), b.kept_counts = mutable_data<int64_t>(kept_counts);
  b.class_counts = mutable_data<int32_t>(class_counts);
  STD_CUDA_CHECK(cudaMemsetAsync(b.kept_counts, 0, 8 * b.images, on.stream));
  if (b.capped) STD_CUDA_CHECK(cudaMemsetAsync(b.class_counts, 0, 4 * b.images * (b.columns - 1), on.stream));

  if (total > 0 && b.kept_most > 0) {
    launch(on, &fill_slots<T>, unsigned(ceil_div(b.images * b.rows, kThreads / kSums)), kThreads, b);
    nms::Problem<C> problem{};
    problem.boxes = b.boxes, problem.scores = b.scores, problem.groups = b.labels;
    problem.images = b.images, problem.rows = per_image, problem.max_output = b.kept_most;
    problem.iou_threshold = C(a.nms_threshold), problem.score_threshold = C(-0.5);  // empty slots have -1
    problem.indices = b.kept, problem.counts = b.kept_counts;
    problem.order = mutable_data<uint32_t>(order), problem.competitors = mutable_data<int64_t>(competitors);
    nms::order_rows(on, like, problem);
    nms::suppress(on, like, problem);
  }
  launch(on, &finish<T>, unsigned(b.images), 32, b);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cuda(const Tensor& class_logits, const Tensor& box_deltas,
                                                const Tensor& proposals, const Tensor& counts,
                                                const Tensor& image_sizes, double score_threshold, double nms_threshold,
                                                int64_t max_detections, Reals weights, double clip, double min_size,
                                                bool background_first, int64_t max_per_class, bool clip_first) {
  const Arguments a =
      check_arguments(class_logits, box_deltas, proposals, counts, image_sizes, score_threshold, nms_threshold,
                      max_detections, weights, clip, min_size, background_first, max_per_class, clip_first);
  const OnDevice on(a.class_logits);
  const Outputs to = allocate(a);
  dispatch_floating(a.class_logits, "class_logits", [&](auto type) { run<typename decltype(type)::type>(on, a, to); });
  return {to.boxes, to.scores, to.labels, to.counts};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("roi_detections", TORCH_BOX(&cuda)); }
}  // namespace pyrcnn::roi_detections
