// Step 7: first all pairs of boxes of which one would suppress the other, then the order of the scores. Pairs do not
// depend on each other, so threads find them together; only resolving them is sequential. Where most boxes are kept,
// there are few pairs. Where boxes are crowded there are many, and step 6 is better.
#include <atomic>
#include <thread>

#include "neighbours.h"
#include "sort.h"

struct Pair {
  uint32_t better, worse;  // ranks
};

namespace {

struct Search {
  std::vector<Bundle> bundles;
  std::vector<uint32_t> ranks;  // of the box in each slot
  Bounds bounds, ranges;
  float threshold;
  std::atomic<int64_t> next{0};

  Search(const Box* boxes, const std::vector<uint32_t>& rank_of, int64_t n, float threshold)
      : bundles((n + kBundle - 1) / kBundle),
        ranks(bundles.size() * kBundle),
        bounds(int64_t(bundles.size())),
        ranges(int64_t(bundles.size())),
        threshold(threshold) {
    const float factor = threshold / (1 + threshold) * (1 - 8e-6f);
    const std::vector<uint32_t> curve = along_curve(boxes, n);
    for (int64_t i = 0; i < n; ++i) {
      const Box box = boxes[curve[i]];
      const Point point = point_of(box);
      ranks[i] = rank_of[curve[i]];
      if (!interacts(point)) continue;  // its slot stays NaN
      const Range range = range_of(point, threshold);
      bundles[i / kBundle].set(int(i % kBundle), box, area(box) * factor);
      bounds.extend(i / kBundle, point, point), ranges.extend(i / kBundle, range.low, range.high);
    }
  }

  // The pairs of bundles a and b >= a.
  void compare(int64_t a, int64_t b, std::vector<Pair>& pairs) const {
    for (int i = 0; i < kBundle; ++i) {
      const Box mine = bundles[a].box(i);
      uint32_t word = screened(bundles[b], mine, bundles[a].bound[i]);
      if (a == b) word &= ~0u << i << 1;
      for (; word != 0; word &= word - 1) {
        const int j = __builtin_ctz(word);
        const Box theirs = bundles[b].box(j);
        if (!suppresses(mine, theirs, area(mine), area(theirs), threshold)) continue;
        const uint32_t one = ranks[a * kBundle + i], two = ranks[b * kBundle + j];
        pairs.push_back({std::min(one, two), std::max(one, two)});
      }
    }
  }

  // One thread's part: takes bundles until there are none left.
  void run(std::vector<Pair>& pairs) {
    for (int64_t a; (a = next++) < int64_t(bundles.size());) {
      Range range;
      for (int c = 0; c < 4; ++c) range.low.at[c] = ranges.low[c][a], range.high.at[c] = ranges.high[c][a];
      for (int64_t first = a / kLanes * kLanes; first < bounds.size(); first += kLanes)
        for (uint32_t word = bounds.meet(first, range); word != 0; word &= word - 1)
          if (const int64_t b = first + __builtin_ctz(word); b >= a) compare(a, b, pairs);
    }
  }
};

}  // namespace

int64_t nms(const float* given, const float* scores, int64_t n, float threshold, int threads, int64_t* kept) {
  const std::vector<uint32_t> order = order_of(scores, n);
  std::vector<uint32_t> rank_of(n);
  for (int64_t i = 0; i < n; ++i) rank_of[order[i]] = uint32_t(i);

  Search search(reinterpret_cast<const Box*>(given), rank_of, n, threshold);
  std::vector<std::vector<Pair>> found(threads);
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back([&search, &found, t] { search.run(found[t]); });
  search.run(found[0]);
  for (std::thread& other : others) other.join();

  // Sorted by the better box. When its turn comes, every box that may suppress it has had its turn.
  std::vector<uint32_t> ends(n + 1);
  int64_t total = 0;
  for (const auto& pairs : found)
    for (const Pair& pair : pairs) ++ends[pair.better + 1], ++total;
  for (int64_t i = 0; i < n; ++i) ends[i + 1] += ends[i];
  std::vector<uint32_t> worse(total), next(ends);
  for (const auto& pairs : found)
    for (const Pair& pair : pairs) worse[next[pair.better]++] = pair.worse;
  std::vector<uint8_t> suppressed(n);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (suppressed[i]) continue;
    kept[count++] = order[i];
    for (uint32_t k = ends[i]; k < ends[i + 1]; ++k) suppressed[worse[k]] = 1;
  }
  return count;
}
