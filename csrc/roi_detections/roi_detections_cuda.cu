// Three nodes of a CUDA graph. The first zeroes counters. `find` lists the classes of each row whose score exceeds the
// threshold, in any order, with half a warp per row. `detect` has one block per image: it takes the best few thousand
// of the list in order, decodes them, and suppresses until max_detections are kept; only if that does not suffice it
// takes the next best. Scores of a row sum to 1, which limits how many can exceed the threshold, so all shapes are
// known beforehand.
#include "common/cuda/select_sorted.cuh"
#include "nms/cuda/settle.cuh"
#include "roi_detections_check.h"

namespace pyrcnn::roi_detections {
namespace {

template <typename C> constexpr int kDetectThreads = 4096 / int(sizeof(C));  // 1024; doubles take twice the registers
constexpr int kEnough = 1024;  // candidates that are selected at a time, at least

template <typename T> struct DetectionBatch {
  using C = compute_t<T>;
  Head<C> head;
  Cut<C> cut;
  const T* logits;  // [images, rows, columns]
  Numbers counts, sizes;
  int64_t images, rows, columns, background, slots, most, most_per_class;
  C min_size, iou_threshold;
  bool capped;
  ScoredRow<C>* found;    // [images, rows * slots]: of candidates, in any order
  int32_t* found_counts;  // [images], zero at first
  int32_t* class_counts;  // [images, classes], zero at first; null without a cap
  C* out_boxes;
  C* out_scores;
  int64_t* out_labels;
  int64_t* out_counts;
};

// The same result in the 16 lanes of a row. The exchange by xor stays within half a warp. A sum of two does not depend
// on their order, so the result has the bits of the CPU.
template <typename C> __device__ C sum_over_row(C x) {
  for (int step = kSums / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}
template <typename C> __device__ C greatest_over_row(C x) {
  for (int step = kSums / 2; step > 0; step /= 2) x = higher(C(__shfl_xor_sync(kFullWarp, x, step)), x);
  return x;
}

// Lane j of half a warp has the columns j, j + 16, ... of its row. Both halves of a warp do the same number of steps.
template <typename T> __global__ void __launch_bounds__(kThreads) find(const __grid_constant__ DetectionBatch<T> b) {
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
  const bool hopeless = !real || !b.cut.hopeful(foreground, most);
  ScoredRow<C>* found = b.found + image * b.rows * b.slots;
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
    int place = 0;
    if (part == 0 && hits != 0) place = atomicAdd(b.found_counts + image, __popc(hits));
    place = __shfl_sync(kFullWarp, place, shift) + __popc(hits & ((1u << part) - 1));
    if (hit && place < b.rows * b.slots) {
      const uint32_t label = uint32_t(c - (c > b.background));
      found[place] = ScoredRow<C>::of(score, uint32_t(r) * uint32_t(b.columns - 1) + label);
    }
  }
}

// The kept boxes that one warp of `detect` has settled.
template <typename C> struct SettledBoxes {
  Box<C> boxes[32];
  int64_t labels[32];
  int count;
};

// Compares candidates in order, one per thread, with the boxes kept before and with each other. Appends those that are
// kept to the outputs and returns how many there are now. In step r warp r settles its own candidates; then all later
// ones are compared with those it keeps.
template <typename T>
__device__ int64_t keep_in_order(const DetectionBatch<T>& b, int64_t image, const ScoredRow<compute_t<T>>* entries,
                                 int count, int64_t kept, SettledBoxes<compute_t<T>> (&steps)[2]) {
  using C = compute_t<T>;
  const int i = int(threadIdx.x), v = i / 32, lane = i % 32, words = (count + 31) / 32;
  const uint32_t lower_lanes = (1u << lane) - 1;
  const ClipLimits<C> limits{b.sizes.template at<C>(2 * image), b.sizes.template at<C>(2 * image + 1), b.min_size};
  const nms::PairTest<C> suppresses(b.iou_threshold);
  C *boxes = b.out_boxes + 4 * image * b.most, *scores = b.out_scores + image * b.most;
  int64_t* labels = b.out_labels + image * b.most;

  Box<C> box{};
  int64_t label = -1;
  C score{};
  bool gone = true;
  if (i < count) {
    const uint32_t candidate = entries[i].row();
    const AnchorDelta<C> one = anchor_delta(b.head, image, candidate);
    box = decode(one.anchor, one.delta, b.head.cap);
    gone = !clip_and_filter(box, limits);
    label = candidate % uint32_t(b.head.classes), score = score_of(entries[i].key());
  }
  for (int64_t k = 0; k < kept && !gone; ++k)
    gone = labels[k] == label && suppresses({boxes[4 * k], boxes[4 * k + 1], boxes[4 * k + 2], boxes[4 * k + 3]}, box);
  uint32_t suppressors = 0;  // among the lower lanes
  for (int j = 0; j < 31; ++j) {
    const Box<C> other{__shfl_sync(kFullWarp, box.x1, j), __shfl_sync(kFullWarp, box.y1, j),
                       __shfl_sync(kFullWarp, box.x2, j), __shfl_sync(kFullWarp, box.y2, j)};
    const bool same = __shfl_sync(kFullWarp, (long long)(label), j) == label;
    suppressors |= uint32_t(j < lane && same && suppresses(other, box)) << j;
  }

  for (int r = 0; r < words && kept < b.most; ++r) {
    SettledBoxes<C>& step = steps[r % 2];
    if (v == r) {
      uint32_t stay = nms::settle(__ballot_sync(kFullWarp, gone), suppressors);
      if (b.capped) {  // the boxes that these would suppress are beyond the limit too
        const bool stays = (stay >> lane & 1) != 0;
        const uint32_t same = __match_any_sync(kFullWarp, (unsigned long long)(stays ? label : -1));
        int32_t* of_class = b.class_counts + image * b.head.classes;
        const int64_t rank = stays ? of_class[label] + __popc(same & lower_lanes) : 0;
        __syncwarp();  // all have read
        if (stays && (same & lower_lanes) == 0) of_class[label] += __popc(same);
        stay = __ballot_sync(kFullWarp, stays && rank < b.most_per_class);
      }
      const int64_t room = b.most - kept;
      stay = nms::first_bits(stay, room < 32 ? int(room) : 32);
      if (stay >> lane & 1) {
        const int place = __popc(stay & lower_lanes);
        const int64_t at = kept + place;
        step.boxes[place] = box, step.labels[place] = label;
        boxes[4 * at] = box.x1, boxes[4 * at + 1] = box.y1, boxes[4 * at + 2] = box.x2, boxes[4 * at + 3] = box.y2;
        scores[at] = score, labels[at] = label;
      }
      if (lane == 0) step.count = __popc(stay);
    }
    __syncthreads();  // `step` is read before the next barrier and overwritten after it
    kept += step.count;
    for (int k = 0; k < step.count && v > r && !gone; ++k)
      gone = step.labels[k] == label && suppresses(step.boxes[k], box);
  }
  return kept;
}

template <typename T>
__global__ void __launch_bounds__(kDetectThreads<compute_t<T>>, 1) detect(const __grid_constant__ DetectionBatch<T> b) {
  using C = compute_t<T>;
  using Number = ScoredRowNumber<C>;
  __shared__ SelectedRows<C> list;
  __shared__ SettledBoxes<C> steps[2];
  const int64_t image = blockIdx.x, total = lower(int64_t(b.found_counts[image]), b.rows * b.slots);
  const ScoredRow<C>* found = b.found + image * b.rows * b.slots;
  // Scores lie between the threshold and 1, so the search for a bound starts from these two.
  const Number last = ScoredRow<C>::of(b.cut.threshold > C{} ? b.cut.threshold : C{}, UINT32_MAX).number();
  Number from = ScoredRow<C>::of(C(1), 0).number();
  int64_t kept = 0;
  for (int64_t taken = 0; taken < total && kept < b.most;) {
    Number end = last;
    const int size = select_sorted<C>(list, total, from, end, kEnough, [&](int64_t i) { return found[i]; });
    for (int start = 0; start < size && kept < b.most; start += kDetectThreads<C>)
      kept = keep_in_order(b, image, list.entries + start, lower(size - start, kDetectThreads<C>), kept, steps);
    if (size == 0) break;
    taken += size, from = end;
    __syncthreads();  // all have read the list
  }
  if (threadIdx.x == 0) b.out_counts[image] = kept;
  for (int64_t at = image * b.most + kept + threadIdx.x; at < (image + 1) * b.most; at += kDetectThreads<C>) {
    for (int side = 0; side < 4; ++side) b.out_boxes[4 * at + side] = C{};
    b.out_scores[at] = C{}, b.out_labels[at] = -1;
  }
}

// How many classes of one row can exceed the threshold, with a margin for the rounding of their scores.
template <typename C> int64_t slots_of(const Cut<C>& cut, int64_t classes) {
  const double most = cut.threshold > C{} ? 1.0001 / double(cut.threshold) + 1 : double(classes);
  return most < double(classes) ? int64_t(most) : classes;
}

template <typename T> void run(const OnDevice& on, const Arguments& a, const Outputs& to) {
  using C = compute_t<T>;
  DetectionBatch<T> b{};
  b.head = head<C>(a), b.cut = cut<C>(a), b.logits = data<T>(a.class_logits);
  b.counts = numbers(a.counts, "counts"), b.sizes = numbers(a.image_sizes, "image_sizes");
  if (a.images == 0) return;
  b.images = a.images, b.rows = a.rows, b.columns = a.columns, b.background = a.background;
  b.slots = slots_of(b.cut, a.columns - 1);
  b.most = a.max_detections, b.most_per_class = a.max_per_class, b.capped = a.max_per_class < a.max_detections;
  b.min_size = C(a.min_size), b.iou_threshold = C(a.nms_threshold);
  b.out_boxes = mutable_data<C>(to.boxes), b.out_scores = mutable_data<C>(to.scores);
  b.out_labels = mutable_data<int64_t>(to.labels), b.out_counts = mutable_data<int64_t>(to.counts);

  const auto scratch = [&](int64_t bytes) {
    return torch::stable::new_empty(a.class_logits, {bytes}, ScalarType::Byte);
  };
  const int64_t counters = b.images * (1 + (b.capped ? b.head.classes : 0));
  const Tensor found = scratch(int64_t(sizeof(ScoredRow<C>)) * b.images * b.rows * b.slots),
               zeros = scratch(4 * counters);
  b.found = mutable_data<ScoredRow<C>>(found), b.found_counts = mutable_data<int32_t>(zeros);
  b.class_counts = b.found_counts + b.images;
  set_bytes(on, b.found_counts, 0, 4 * counters);
  if (b.rows * b.slots > 0) launch(on, &find<T>, unsigned(ceil_div(b.images * b.rows, kThreads / kSums)), kThreads, b);
  launch(on, &detect<T>, unsigned(b.images), kDetectThreads<C>, b);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cuda(const Tensor& class_logits, const Tensor& box_deltas,
                                                const Tensor& proposals, const Tensor& counts,
                                                const Tensor& image_sizes, double score_threshold, double nms_threshold,
                                                int64_t max_detections, Reals weights, double clip, double min_size,
                                                bool background_first, int64_t max_per_class) {
  const Arguments a =
      check_arguments(class_logits, box_deltas, proposals, counts, image_sizes, score_threshold, nms_threshold,
                      max_detections, weights, clip, min_size, background_first, max_per_class);
  const OnDevice on(a.class_logits);
  const Outputs to = allocate(a);
  dispatch_floating(a.class_logits, "class_logits", [&](auto type) { run<typename decltype(type)::type>(on, a, to); });
  return {to.boxes, to.scores, to.labels, to.counts};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("roi_detections", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::roi_detections
