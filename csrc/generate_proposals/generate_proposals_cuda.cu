// All shapes are fixed, so that a CUDA graph can hold this. Up to 4096 anchors per image and level: one launch
// (generate_proposals_at_once.cuh). More: (1) all anchors are sorted (generate_proposals_order.cuh); (2) one block per
// image and level decodes the best and removes those that do not pass the filter; (3) suppression, with each image and
// level as an image of its own (nms/cuda/chunks.cuh); (4) the levels are merged by binary search.
#include "nms/cuda/chunks.cuh"
#include "generate_proposals_at_once.cuh"
#include "generate_proposals_order.cuh"

namespace pyrcnn::generate_proposals {
namespace {

template <typename T>
__global__ void __launch_bounds__(kDecodeThreads, 1) decode_sorted(const __grid_constant__ ProposalBatch<T> b) {
  using C = compute_t<T>;
  __shared__ BlockScan::TempStorage shared;
  const int64_t segment = blockIdx.x, image = segment / b.levels, l = segment % b.levels;
  const int64_t first = image * b.anchors() + b.first[l], count = lower(b.first[l + 1] - b.first[l], b.top);
  const Level<T>& level = b.level[l];
  const ClipLimits<C> limits = b.limits(image);
  int64_t written = 0;  // the same in all threads
  for (int64_t start = 0; start < count; start += kDecodeThreads) {
    const int64_t i = start + threadIdx.x;
    bool fits = false;
    Box<C> box{};
    C logit{};
    if (i < count) {
      const uint32_t index = b.sorted[first + i];
      logit = b.logit(image, level, level.position(index));
      const AnchorDelta<C> one = anchor_delta(level, b.rules, image, index);
      box = decode(one.anchor, one.delta, b.rules.cap);
      fits = clip_and_filter(box, limits) && logit - logit == C{};
    }
    int before = 0, sum = 0;
    BlockScan(shared).ExclusiveSum(int(fits), before, sum);
    if (fits) {
      const int64_t rank = written + before, at = segment * b.top + rank;
      C* to = b.boxes + 4 * at;
      to[0] = box.x1, to[1] = box.y1, to[2] = box.x2, to[3] = box.y2;
      b.scores[at] = sigmoid(logit);
      b.order[at] = uint32_t(rank);
    }
    written += sum;
    __syncthreads();  // `shared` is used again
  }
  if (threadIdx.x == 0) b.competitors[segment] = written;
}

// The score of the i-th kept box of a segment.
template <typename T> __device__ compute_t<T> kept_score(const ProposalBatch<T>& b, int64_t segment, int64_t i) {
  return b.scores[segment * b.top + b.kept[segment * b.kept_most + i]];
}

// Writes each kept box to its place among all levels of its image: its rank in its own level, plus for every other
// level how many go before it; equal scores go by level. What stays empty becomes zero. grid: (kept boxes or places of
// an image, images)
template <typename T> __global__ void merge(const __grid_constant__ ProposalBatch<T> b) {
  using C = compute_t<T>;
  const int64_t element = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  const int64_t l = element / b.kept_most, i = element % b.kept_most;
  for (int64_t image = blockIdx.y; image < b.images; image += gridDim.y) {
    const int64_t segment = image * b.levels + l;
    int64_t sum = 0;
    for (int64_t other = 0; other < b.levels; ++other) sum += b.kept_counts[image * b.levels + other];
    if (element == 0) b.out_counts[image] = lower(sum, b.most);
    if (element >= sum && element < b.most) {
      for (int side = 0; side < 4; ++side) b.out_boxes[4 * (image * b.most + element) + side] = C{};
      b.out_scores[image * b.most + element] = C{};
    }
    if (l >= b.levels || i >= b.kept_counts[segment]) continue;
    const C score = kept_score(b, segment, i);
    int64_t place = i;
    for (int64_t other = 0; other < b.levels && place < b.most; ++other) {
      if (other == l) continue;
      int64_t low = 0, high = b.kept_counts[image * b.levels + other];
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        const C rival = kept_score(b, image * b.levels + other, middle);
        if (other < l ? rival >= score : rival > score) low = middle + 1;
        else high = middle;
      }
      place += low;
    }
    if (place >= b.most) continue;
    const C* from = b.boxes + 4 * (segment * b.top + b.kept[segment * b.kept_most + i]);
    C* to = b.out_boxes + 4 * (image * b.most + place);
    for (int side = 0; side < 4; ++side) to[side] = from[side];
    b.out_scores[image * b.most + place] = score;
  }
}

template <typename T> void run(const OnDevice& on, const Arguments& a, const Outputs& to) {
  using C = compute_t<T>;
  const Tensor& like = a.objectness[0];
  ProposalBatch<T> b{};
  for (int64_t l = 0; l < a.levels; ++l) {
    b.level[l] = level<T>(a, l);
    const int64_t anchors = b.level[l].anchors();
    b.first[l + 1] = b.first[l] + anchors;
    const int64_t top = anchors < a.pre_nms_top_n ? anchors : a.pre_nms_top_n;
    b.top = b.top < top ? top : b.top;
  }
  b.levels = a.levels, b.images = a.images, b.most = a.post_nms_top_n;
  b.kept_most = b.top < b.most ? b.top : b.most;
  b.rules = rules<C>(a), b.sizes = numbers(a.image_sizes, "image_sizes");
  b.min_size = C(a.min_size), b.iou_threshold = C(a.nms_threshold);
  b.out_boxes = mutable_data<C>(to.boxes), b.out_scores = mutable_data<C>(to.scores);
  b.out_counts = mutable_data<int64_t>(to.counts);
  if (b.images == 0) return;
  const int64_t segments = b.images * b.levels, rows = segments * b.top;
  if (b.most == 0 || b.top == 0) {
    set_bytes(on, b.out_counts, 0, 8 * b.images);
    set_bytes(on, b.out_boxes, 0, 4 * sizeof(C) * b.images * b.most);
    set_bytes(on, b.out_scores, 0, sizeof(C) * b.images * b.most);
    return;
  }
  if (b.top <= kMostAtOnce && can_run_together()) return run_at_once(on, like, b);

  const Tensor boxes = scratch_bytes(like, 4 * int64_t(sizeof(C)) * rows);
  const Tensor scores = scratch_bytes(like, int64_t(sizeof(C)) * rows), order = scratch_bytes(like, 4 * rows);
  const Tensor kept = scratch_bytes(like, 8 * segments * b.kept_most), competitors = scratch_bytes(like, 8 * segments);
  const Tensor kept_counts = scratch_bytes(like, 8 * segments);
  b.boxes = mutable_data<C>(boxes), b.scores = mutable_data<C>(scores), b.order = mutable_data<uint32_t>(order);
  b.kept = mutable_data<int64_t>(kept), b.competitors = mutable_data<int64_t>(competitors);
  b.kept_counts = mutable_data<int64_t>(kept_counts);
  set_bytes(on, b.kept_counts, 0, 8 * segments);

  const int64_t total = b.images * b.anchors();
  const Tensor keys = scratch_bytes(like, 8 * total), sorted = scratch_bytes(like, 4 * total);
  b.keys = mutable_data<uint64_t>(keys), b.sorted = mutable_data<uint32_t>(sorted);
  sort_all(on, like, b);
  launch(on, &decode_sorted<T>, unsigned(segments), kDecodeThreads, b);

  nms::Problem<C> problem{};
  problem.boxes = b.boxes, problem.images = segments, problem.rows = b.top, problem.max_output = b.kept_most;
  problem.iou_threshold = b.iou_threshold, problem.all_compete = true;
  problem.indices = b.kept, problem.counts = b.kept_counts, problem.order = b.order,
  problem.competitors = b.competitors;
  nms::suppress(on, like, problem);

  const int64_t elements = higher(b.levels * b.kept_most, b.most);
  launch(on, &merge<T>, dim3(unsigned(ceil_div(elements, kThreads)), unsigned(lower(b.images, kMaxBlocks))), kThreads,
         b);
}

std::tuple<Tensor, Tensor, Tensor> cuda(const Tensors& objectness, const Tensors& deltas, const Tensors& cell_anchors,
                                        Reals strides, const Tensor& image_sizes, int64_t pre_nms_top_n,
                                        int64_t post_nms_top_n, double nms_threshold, double min_size, Reals weights,
                                        double clip, double offset) {
  const Arguments a = check_arguments(objectness, deltas, cell_anchors, strides, image_sizes, pre_nms_top_n,
                                      post_nms_top_n, nms_threshold, min_size, weights, clip, offset);
  const OnDevice on(a.objectness[0]);
  const Outputs to = allocate(a);
  dispatch_floating(a.objectness[0], "objectness", [&](auto type) { run<typename decltype(type)::type>(on, a, to); });
  return {to.boxes, to.scores, to.counts};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("generate_proposals", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::generate_proposals
