// generate_proposals on the CPU. One task per image and level selects the best anchors, decodes only those, and
// suppresses them. Then the levels of each image are merged.
#include "common/cpu/parallel.h"
#include "common/simd/select.h"
#include "nms/cpu/suppress.h"
#include "generate_proposals_check.h"
#include "generate_proposals_kernel.h"

namespace pyrcnn::generate_proposals {
namespace {

constexpr int64_t kAnchorsAtOnce = 4096;  // compared with the bar before it may be raised

// A logit that a little more than `wanted` anchors of the level reach, estimated from a sample; the lowest float if a
// bar would exclude too few. A wrong guess costs time, not exactness.
template <typename T> compute_t<T> guess_bar(const Level<T>& level, const T* values, int64_t wanted) {
  using C = compute_t<T>;
  const int64_t total = level.anchors();
  constexpr C kLowest = std::numeric_limits<C>::lowest();
  if (total <= 4 * wanted || total <= kAnchorsAtOnce) return kLowest;
  const int64_t size = total > 4 * kAnchorsAtOnce ? 2048 : 1024;
  const double expected = double(wanted) * double(size) / double(total);
  const int64_t rank = int64_t(expected + 3 * std::sqrt(expected) + 1);
  C sample[2048];
  int64_t n = 0;
  for (uint32_t i = 0; i < size; ++i) {  // multiples of the golden ratio modulo 1 are evenly spread
    const C value = C(values[int64_t(uint64_t(i * 2654435769u) * uint64_t(total) >> 32)]);
    if (value >= kLowest && value < std::numeric_limits<C>::infinity()) sample[n++] = value;
  }
  if (rank >= n) return kLowest;
  std::partial_sort(sample, sample + rank + 1, sample + n, std::greater<C>());
  return sample[rank];
}

// The best anchors of one level of one image, at most `top`, best first. Anchors whose logit is not finite are left
// out.
template <typename T> class BestAnchors {
  using C = compute_t<T>;
  using Item = Ranked<C>;

 public:
  BestAnchors(const Level<T>& level, int64_t image, int64_t top)
      : level_(level),
        values_(level.objectness + image * level.objectness_image),
        top_(std::min(top, level.anchors())) {
    if (top_ == 0) return;
    constexpr C kLowest = std::numeric_limits<C>::lowest();
    const C bar = guess_bar(level_, values_, top_);
    scan(bar);
    if (int64_t(items_.size()) < top_ && bar > kLowest) items_.clear(), scan(kLowest);
    partition_best(items_.data(), items_.data() + items_.size(), top_);
    const int64_t n = std::min<int64_t>(top_, int64_t(items_.size()));
    items_.resize(2 * n);
    sorted_ = sort_unordered(items_.data(), items_.data() + n, n);
    for (int64_t i = 0; i < n; ++i) indices.push_back(sorted_[i].index());
  }
  C logit(int64_t i) const { return C(values_[level_.position(indices[i])]); }

  std::vector<uint32_t> indices;

 private:
  void scan(C bar) {
    const auto at_least = PYRCNN_KERNEL(at_least<T>);
    const int64_t capacity = 4 * top_ + kAnchorsAtOnce;
    items_.reserve(capacity);
    full_ = false;
    uint32_t found[kAnchorsAtOnce];
    // Anchors that are contiguous in memory have indices `step` apart: all of an image (NHWC), or one plane.
    const int64_t runs = level_.interleaved ? 1 : level_.per_cell, step = level_.interleaved ? 1 : level_.per_cell;
    const int64_t length = level_.anchors() / runs;
    for (int64_t run = 0; run < runs; ++run)
      for (int64_t begin = 0; begin < length; begin += kAnchorsAtOnce) {
        if (int64_t(items_.size()) + kAnchorsAtOnce > capacity) bar = raise(bar);
        const T* values = values_ + run * length + begin;
        const int64_t n = at_least(values, std::min(kAnchorsAtOnce, length - begin), bar, found);
        for (int64_t i = 0; i < n; ++i) {
          const Item item(C(values[found[i]]), uint32_t((begin + found[i]) * step + run));
          if (!full_ || before(item, worst_)) items_.push_back(item);
        }
      }
  }
  // Keeps the best top_ items. From now on an anchor must be better than the worst of them.
  C raise(C bar) {
    if (int64_t(items_.size()) <= top_) return bar;
    partition_best(items_.data(), items_.data() + items_.size(), top_);
    items_.resize(top_);
    worst_ = items_[top_ - 1];
    full_ = true;
    return C(values_[level_.position(worst_.index())]);
  }

  const Level<T>& level_;
  const T* values_;
  int64_t top_;
  std::vector<Item> items_;
  Item* sorted_ = nullptr;
  Item worst_;
  bool full_ = false;
};

// The proposals of one level of one image, best first.
template <typename C> struct Kept {
  std::vector<C> boxes, scores;
  int64_t count = 0;
};

template <typename T>
Kept<compute_t<T>> propose(const Level<T>& level, const Rules<compute_t<T>>& rules, int64_t image,
                           const ClipLimits<compute_t<T>>& limits, const Arguments& a) {
  using C = compute_t<T>;
  const BestAnchors<T> best(level, image, a.pre_nms_top_n);
  const int64_t n = int64_t(best.indices.size());
  Kept<C> result;
  if (n == 0) return result;
  const std::unique_ptr<C[]> boxes(new C[4 * n]);
  const std::unique_ptr<uint32_t[]> ranks(new uint32_t[2 * n]);
  const int64_t usable = PYRCNN_KERNEL(decode_clip_filter<T>)(level, rules, image, limits, best.indices.data(), n,
                                                              boxes.get(), ranks.get());
  uint32_t* kept = ranks.get() + n;
  result.count =
      nms::suppress(nms::Candidates<C>{boxes.get(), nullptr, usable}, C(a.nms_threshold), a.post_nms_top_n, kept);
  result.boxes.resize(4 * result.count);
  result.scores.resize(ceil_div(result.count, 16) * 16);
  for (int64_t i = 0; i < result.count; ++i) {
    std::copy_n(boxes.get() + 4 * int64_t(kept[i]), 4, result.boxes.data() + 4 * i);
    result.scores[i] = best.logit(ranks[kept[i]]);
  }
  PYRCNN_KERNEL(sigmoid<C>)(result.scores.data(), result.count);
  return result;
}

// Merges the levels by score, equal scores in the order of the levels. Returns how many, at most `most`.
template <typename C> int64_t merge(const Kept<C>* levels, int64_t count, int64_t most, C* boxes, C* scores) {
  constexpr C kNone = C(-1);  // less than every score
  int64_t next[kMaxLevels] = {}, n = 0;
  C heads[kMaxLevels];  // the next score of each level
  for (int64_t l = 0; l < count; ++l) heads[l] = levels[l].count > 0 ? levels[l].scores[0] : kNone;
  for (; n < most; ++n) {
    int64_t best = 0;
    C highest = heads[0];
    for (int64_t l = 1; l < count; ++l) {  // without a branch
      best = heads[l] > highest ? l : best;
      highest = higher(heads[l], highest);
    }
    if (highest == kNone) break;
    const Kept<C>& from = levels[best];
    const int64_t i = next[best]++;
    heads[best] = i + 1 < from.count ? from.scores[i + 1] : kNone;
    std::copy_n(from.boxes.data() + 4 * i, 4, boxes + 4 * n);
    scores[n] = highest;
  }
  return n;
}

template <typename T> void run(const Arguments& a, const Outputs& to) {
  using C = compute_t<T>;
  std::vector<Level<T>> levels;
  double cost = 0;
  for (int64_t l = 0; l < a.levels; ++l) {
    levels.push_back(level<T>(a, l));
    const int64_t anchors = levels.back().anchors();
    cost += 0.15 * double(anchors) + 80 * double(std::min(anchors, a.pre_nms_top_n));
  }
  const Rules<C> common = rules<C>(a);
  const Numbers sizes = numbers(a.image_sizes, "image_sizes");
  std::vector<Kept<C>> kept(a.images * a.levels);
  parallel_tasks(a.images * a.levels, cost * double(a.images), [&](int64_t task) {
    const int64_t image = task / a.levels;
    const ClipLimits<C> limits{sizes.at<C>(2 * image), sizes.at<C>(2 * image + 1), C(a.min_size)};
    kept[task] = propose(levels[task % a.levels], common, image, limits, a);
  });
  const int64_t most = a.post_nms_top_n;
  for (int64_t image = 0; image < a.images; ++image) {
    C *boxes = mutable_data<C>(to.boxes) + 4 * most * image, *scores = mutable_data<C>(to.scores) + most * image;
    const int64_t n = merge(kept.data() + image * a.levels, a.levels, most, boxes, scores);
    std::fill(boxes + 4 * n, boxes + 4 * most, C{});
    std::fill(scores + n, scores + most, C{});
    mutable_data<int64_t>(to.counts)[image] = n;
  }
}

std::tuple<Tensor, Tensor, Tensor> cpu(const Tensors& objectness, const Tensors& deltas, const Tensors& cell_anchors,
                                       Reals strides, const Tensor& image_sizes, int64_t pre_nms_top_n,
                                       int64_t post_nms_top_n, double nms_threshold, double min_size, Reals weights,
                                       double clip, double offset) {
  const Arguments a = check_arguments(objectness, deltas, cell_anchors, strides, image_sizes, pre_nms_top_n,
                                      post_nms_top_n, nms_threshold, min_size, weights, clip, offset);
  const Outputs to = allocate(a);
  dispatch_floating(a.objectness[0], "objectness", [&](auto type) { run<typename decltype(type)::type>(a, to); });
  return {to.boxes, to.scores, to.counts};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("generate_proposals", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::generate_proposals
