// roi_detections on the CPU. First the candidates are found, in blocks of rows. Then the candidates of each image are
// visited by descending score, until max_detections are kept. Only candidates that are visited are sorted and decoded.
#include "common/cpu/parallel.h"
#include "common/simd/select.h"
#include "nms/cpu/kernels.h"
#include "python/kernels.h"
#include "roi_detections_check.h"
#include "roi_detections_kernel.h"

namespace pyrcnn::roi_detections {
namespace {

constexpr int64_t kRows = 32;    // rows of a block
constexpr int64_t kFirst = 128;  // candidates visited before more are sorted
constexpr int64_t kSome = 512;   // candidates for which a new list has room
constexpr int64_t kMany = 4096;  // candidates of one pool; of more, a sample limits the first pool
constexpr int64_t kSample = 1024;

template <typename C> using Items = std::vector<Ranked<C>>;

// Finds the candidates of each image, ascending by number. Those of an image are in the lists found[image * blocks],
// found[image * blocks + 1] and so on. All that one thread finds in an image is in one list, so most lists are empty.
template <typename T> std::vector<Items<compute_t<T>>> find(const Arguments& a, const int64_t* valid, int64_t blocks) {
  using C = compute_t<T>;
  const Cut<C> limit = cut<C>(a);
  const int64_t classes = a.columns - 1;
  std::vector<Items<C>> found(a.images * blocks);
  parallel(a.images * blocks, double(kRows * a.columns) * 1.0, [&](int64_t begin, int64_t end) {
    const int64_t room = kSums * ceil_div(a.columns, kSums) * kSums;
    const std::unique_ptr<C[]> work(new C[room + kRows * classes]);
    const std::unique_ptr<uint32_t[]> numbers(new uint32_t[kRows * classes]);
    C* scores = work.get() + room;
    const auto scan = PYRCNN_KERNEL(scan<T>);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / blocks, row = task % blocks * kRows;
      const int64_t rows = std::min(kRows, valid[image] - row);
      if (rows <= 0) continue;
      const T* logits = data<T>(a.class_logits) + (image * a.rows + row) * a.columns;
      const int64_t n = scan(logits, rows, a.columns, a.background, limit, uint32_t(row * classes), work.get(),
                             numbers.get(), scores);
      Items<C>& list = found[std::max(begin, image * blocks)];
      if (list.empty()) list.reserve(std::max(n, kSome));
      for (int64_t i = 0; i < n; ++i) list.emplace_back(scores[i], numbers[i]);
    }
  });
  return found;
}

template <typename C> struct Image {
  int64_t index;
  C height, width;
  C *boxes, *scores;
  int64_t* labels;
};

// The candidates of one image, ascending by number, in lists.
template <typename C> struct Found {
  Items<C>* lists;
  int64_t count, total;

  template <typename F> void each(const F& f) const {
    for (int64_t i = 0; i < count; ++i)
      for (const Ranked<C>& item : lists[i]) f(item);
  }
};

// Hands the candidates of an image out in pools; every candidate of a pool is better than all of the next. Few
// candidates are one pool. Of many, the first pool holds those that are no worse than the r-th best of a sample, so
// that the others are read once, and neither sorted nor copied.
template <typename C> class Pools {
 public:
  explicit Pools(const Found<C>& found) : found_(found) {
    if (found.total <= kMany) return;
    const int64_t step = found.total / kSample;
    sample_.reserve(2 * kSample);
    int64_t next = 0;  // counted from the beginning of a list
    for (int64_t i = 0; i < found.count; ++i) {
      const int64_t size = int64_t(found.lists[i].size());
      for (; next < size; next += step) sample_.push_back(found.lists[i][next]);
      next -= size;
    }
  }

  // Gives the next pool, in no order. Returns false if there is none.
  bool next(Items<C>& pool) {
    if (given_ == found_.total) return false;
    pool.clear();
    const int64_t rank = target_ * int64_t(sample_.size()) / found_.total;
    target_ *= 8;
    if (rank + 1 < int64_t(sample_.size())) {
      partition_best(sample_.data(), sample_.data() + sample_.size(), rank + 1);
      gather(pool, &sample_[rank]);
    } else {
      gather(pool, nullptr);
    }
    given_ += int64_t(pool.size());
    return true;
  }

 private:
  // Collects the candidates after the worst of the last pool, up to `worst`, or all of them.
  void gather(Items<C>& pool, const Ranked<C>* worst) {
    if (given_ == 0 && worst == nullptr) {
      pool = std::move(found_.lists[0]);
      for (int64_t i = 1; i < found_.count; ++i)
        pool.insert(pool.end(), found_.lists[i].begin(), found_.lists[i].end());
    } else if (given_ == 0) {
      found_.each([&](const Ranked<C>& item) {
        if (!before(*worst, item)) pool.push_back(item);
      });
    } else {
      found_.each([&](const Ranked<C>& item) {
        if (before(last_, item) && !(worst && before(*worst, item))) pool.push_back(item);
      });
    }
    if (worst) last_ = *worst;
  }

  const Found<C> found_;
  Items<C> sample_;
  Ranked<C> last_;
  int64_t given_ = 0, target_ = kMany / 4;
};

// The first bundle of each class: there is room for all its candidates, or for the `most` that it keeps.
template <typename C> std::vector<int64_t> first_bundles(const Found<C>& found, int64_t classes, int64_t most) {
  std::vector<int64_t> first(classes + 1, 0);
  if (nms::bundles_for(most) * classes <= nms::bundles_for(found.total)) {  // `most` of each class take no more room
    for (int64_t c = 0; c <= classes; ++c) first[c] = c * nms::bundles_for(most);
    return first;
  }
  int64_t row = 0;                         // the first candidate of the current row
  found.each([&](const Ranked<C>& item) {  // ascending, so no division is needed
    while (item.index() >= row + classes) row += classes;
    ++first[item.index() - row];
  });
  int64_t sum = 0;
  for (int64_t& n : first) sum += nms::bundles_for(std::min(std::exchange(n, sum), most));
  return first;
}

template <typename C>
int64_t detect(const Head<C>& head, const Arguments& a, const Found<C>& found, const Image<C>& to) {
  const int64_t classes = head.classes;
  if (found.total == 0 || a.max_detections == 0) return 0;
  const int64_t most = std::min({a.max_per_class, a.max_detections, a.rows});
  const std::vector<int64_t> first = first_bundles(found, classes, most);
  const std::unique_ptr<nms::BoxBundle<C>[]> bundles(new nms::BoxBundle<C>[first.back()]);
  std::vector<uint32_t> kept_of_class(classes, 0);
  const ClipLimits<C> limits{to.height, to.width, C(a.min_size)};
  Pools<C> pools(found);
  Items<C> items;
  int64_t kept = 0, begin = 0;
  for (int64_t size = kFirst; kept < a.max_detections; size *= 4) {
    if (begin == int64_t(items.size())) {
      if (!pools.next(items)) break;
      begin = 0;
    }
    const int64_t n = std::min(size, int64_t(items.size()) - begin);
    partition_best(items.data() + begin, items.data() + items.size(), n);
    Items<C> scratch(n);
    const Ranked<C>* sorted = sort_unordered(items.data() + begin, scratch.data(), n);
    const std::unique_ptr<C[]> boxes(new C[4 * n]);
    const std::unique_ptr<uint32_t[]> words(new uint32_t[4 * n]);
    uint32_t *candidates = words.get(), *ranks = candidates + n, *labels = ranks + n, *chosen = labels + n;
    for (int64_t i = 0; i < n; ++i) candidates[i] = sorted[i].index();
    const int64_t usable =
        PYRCNN_KERNEL(decode_clip_filter<C>)(head, to.index, limits, candidates, n, boxes.get(), ranks);
    for (int64_t i = 0; i < usable; ++i) labels[i] = candidates[ranks[i]] % uint32_t(classes);
    const nms::Groups groups{labels, first.data(), kept_of_class.data(), uint32_t(std::min<int64_t>(most, UINT32_MAX))};
    const int64_t more =
        PYRCNN_KERNEL_OF(nms, greedy_grouped<C>)(nms::Candidates<C>{boxes.get(), nullptr, usable}, groups,
                                                 C(a.nms_threshold), a.max_detections - kept, bundles.get(), chosen);
    for (int64_t i = 0; i < more; ++i, ++kept) {
      std::copy_n(boxes.get() + 4 * int64_t(chosen[i]), 4, to.boxes + 4 * kept);
      to.scores[kept] = score_of(sorted[ranks[chosen[i]]].key());
      to.labels[kept] = labels[chosen[i]];
    }
    begin += n;
  }
  return kept;
}

template <typename T> void run(const Arguments& a, const Outputs& to) {
  using C = compute_t<T>;
  const Head<C> common = head<C>(a);
  const Numbers sizes = numbers(a.image_sizes, "image_sizes"), counts = numbers(a.counts, "counts");
  std::vector<int64_t> valid(a.images);
  for (int64_t i = 0; i < a.images; ++i) valid[i] = clamp<int64_t>(counts.at<int64_t>(i), 0, a.rows);
  const int64_t blocks = ceil_div(a.rows, kRows);
  std::vector<Items<C>> found = find<T>(a, valid.data(), blocks);
  C *boxes = mutable_data<C>(to.boxes), *scores = mutable_data<C>(to.scores);
  int64_t* labels = mutable_data<int64_t>(to.labels);
  int64_t total = 0;
  for (const Items<C>& some : found) total += int64_t(some.size());
  const double cost = a.images == 0 ? 0 : 30e3 + 10 * double(total) / double(a.images);
  parallel(a.images, cost, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      Found<C> all{found.data() + image * blocks, blocks, 0};
      for (int64_t b = 0; b < blocks; ++b) all.total += int64_t(all.lists[b].size());
      const int64_t at = image * a.max_detections;
      const Image<C> here{image,      sizes.at<C>(2 * image), sizes.at<C>(2 * image + 1), boxes + 4 * at, scores + at,
                          labels + at};
      const int64_t n = detect(common, a, all, here);
      const int64_t d = a.max_detections;
      std::fill(here.boxes + 4 * n, here.boxes + 4 * d, C{});
      std::fill(here.scores + n, here.scores + d, C{});
      std::fill(here.labels + n, here.labels + d, int64_t{-1});
      mutable_data<int64_t>(to.counts)[image] = n;
    }
  });
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> cpu(const Tensor& class_logits, const Tensor& box_deltas,
                                               const Tensor& proposals, const Tensor& counts, const Tensor& image_sizes,
                                               double score_threshold, double nms_threshold, int64_t max_detections,
                                               Reals weights, double clip, double min_size, bool background_first,
                                               int64_t max_per_class) {
  const Arguments a =
      check_arguments(class_logits, box_deltas, proposals, counts, image_sizes, score_threshold, nms_threshold,
                      max_detections, weights, clip, min_size, background_first, max_per_class);
  const Outputs to = allocate(a);
  dispatch_floating(a.class_logits, "class_logits", [&](auto type) { run<typename decltype(type)::type>(a, to); });
  return {to.boxes, to.scores, to.labels, to.counts};
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("roi_detections", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::roi_detections
