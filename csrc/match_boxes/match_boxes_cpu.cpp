// Two passes over the anchors, in chunks that threads share. The first finds every anchor's best ground truth, and
// every ground truth's best IoU in the chunk. The second claims anchors for a ground truth, and visits only the chunks
// in which it has its best IoU.
#include <algorithm>
#include <limits>

#include "common/cpu/parallel.h"
#include "match_boxes_check.h"
#include "match_boxes_kernel.h"

namespace pyrcnn::match_boxes {
namespace {

constexpr int64_t kChunk = 1024;
constexpr double kNanosecondsPerAnchor = 10;

template <typename C> struct Truths {
  std::vector<Truth<C>> boxes, crowds;
};

template <typename T> Truths<compute_t<T>> read_truths(const T* boxes, int64_t count, const bool* crowd) {
  using C = compute_t<T>;
  Truths<C> result;
  for (int64_t g = 0; g < count; ++g, boxes += 4) {
    const Box<C> box{C(boxes[0]), C(boxes[1]), C(boxes[2]), C(boxes[3])};
    (crowd && crowd[g] ? result.crowds : result.boxes).push_back({box, area(box), int32_t(g)});
  }
  return result;
}

// Makes the anchors in [begin, end) foreground whose IoU with the ground truth is its best one, whatever they match.
template <typename T>
void claim(const Image<T>& image, int64_t begin, int64_t end, const Truth<compute_t<T>>& truth, compute_t<T> best) {
  using C = compute_t<T>;
  for (int64_t i = begin; i < end; ++i) {
    if (image.ious[i] < best) continue;
    const T* a = image.anchors + 4 * i;
    const Box<C> anchor{C(a[0]), C(a[1]), C(a[2]), C(a[3])};
    if (iou(truth.box, anchor, truth.area, area(anchor)) == best) image.states[i] = 1;
  }
}

template <typename T> struct Job {
  using C = compute_t<T>;
  Sizes sizes;
  const T* anchors;
  const T* truths;
  const int64_t* counts;
  const bool* crowd;
  int64_t* matches;
  int8_t* states;
  C* ious;
  C high, low, crowd_share;
  bool allow_low_quality;

  void run() const {
    const int64_t chunks = ceil_div(sizes.anchors, kChunk);
    std::vector<Truths<C>> truths_of;
    std::vector<Image<T>> images;
    std::vector<int64_t> first_best;  // where an image begins in `bests`
    int64_t best_count = 0;
    for (int64_t n = 0; n < sizes.images; ++n) {
      const int64_t count = counts ? std::clamp<int64_t>(counts[n], 0, sizes.truths) : sizes.truths;
      truths_of.push_back(
          read_truths(truths + 4 * n * sizes.truths, count, crowd ? crowd + n * sizes.truths : nullptr));
      first_best.push_back(best_count);
      best_count += chunks * int64_t(truths_of.back().boxes.size());
    }
    for (int64_t n = 0; n < sizes.images; ++n) images.push_back(image(n, truths_of[size_t(n)]));
    std::vector<C> bests(size_t(best_count), C(0));  // per image [chunks, truths]
    const auto best_of = [&](int64_t n, int64_t chunk) {
      return bests.data() + first_best[size_t(n)] + chunk * images[size_t(n)].truth_count;
    };
    const auto each_chunk = [&](const auto& body) {
      parallel(sizes.images * chunks, kNanosecondsPerAnchor * kChunk, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t chunk = i % chunks;
          body(i / chunks, chunk, chunk * kChunk, std::min(sizes.anchors, (chunk + 1) * kChunk));
        }
      });
    };
    const auto best_truths = PYRCNN_KERNEL(best_truths<T>);
    each_chunk([&](int64_t n, int64_t chunk, int64_t begin, int64_t end) {
      best_truths(images[size_t(n)], begin, end, best_of(n, chunk));
    });
    if (!allow_low_quality) return;
    std::vector<std::vector<C>> best_overall;
    for (int64_t n = 0; n < sizes.images; ++n) {
      std::vector<C> best(size_t(images[size_t(n)].truth_count), C(0));
      for (int64_t chunk = 0; chunk < chunks; ++chunk)
        for (size_t g = 0; g < best.size(); ++g) best[g] = std::max(best[g], best_of(n, chunk)[g]);
      best_overall.push_back(std::move(best));
    }
    each_chunk([&](int64_t n, int64_t chunk, int64_t begin, int64_t end) {
      const Image<T>& im = images[size_t(n)];
      for (int64_t g = 0; g < im.truth_count; ++g) {
        const C best = best_overall[size_t(n)][size_t(g)];
        if (claims(best, high) && best_of(n, chunk)[g] == best) claim(im, begin, end, im.truths[g], best);
      }
    });
  }

  Image<T> image(int64_t n, const Truths<C>& t) const {
    const int64_t first = n * sizes.anchors;
    // Without ground truth every anchor is background, whatever the thresholds.
    const C never = std::numeric_limits<C>::infinity();
    const bool none = t.boxes.empty();
    return {anchors + (sizes.shared_anchors ? 0 : 4 * first),
            t.boxes.data(),
            t.crowds.data(),
            int64_t(t.boxes.size()),
            int64_t(t.crowds.size()),
            matches + first,
            states + first,
            ious + first,
            none ? never : high,
            none ? never : low,
            crowd_share};
  }
};

Results cpu(const Tensor& anchors, const Tensor& truths, const MaybeTensor& counts, const MaybeTensor& crowd,
            double high, double low, bool allow_low_quality, double crowd_threshold) {
  const Sizes sizes = check_arguments(anchors, truths, counts, crowd, high, low, crowd_threshold);
  const Results results = allocate(truths, sizes);
  const Tensor a = as_contiguous(anchors), t = as_contiguous(truths);
  const Tensor c = counts ? as_contiguous(*counts) : a, w = crowd ? as_contiguous(*crowd) : a;
  dispatch_floating(truths, "ground_truth", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    if (sizes.images == 0 || sizes.anchors == 0) return;
    Job<T>{sizes,
           data<T>(a),
           data<T>(t),
           counts ? data<int64_t>(c) : nullptr,
           crowd ? data<bool>(w) : nullptr,
           mutable_data<int64_t>(std::get<0>(results)),
           mutable_data<int8_t>(std::get<1>(results)),
           mutable_data<C>(std::get<2>(results)),
           C(high),
           C(low),
           C(crowd_threshold),
           allow_low_quality}
        .run();
  });
  return results;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("match_boxes", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::match_boxes
