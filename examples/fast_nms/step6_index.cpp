// Step 6: the kept boxes are found by place and size. Every box has a place along a curve; a kept box goes into the
// bundle of its place. A candidate is compared with its own bundle, and with those whose bounds meet its range.
#include "neighbours.h"
#include "sort.h"

int64_t nms(const float* given, const float* scores, int64_t n, float threshold, int, int64_t* kept) {
  const Box* boxes = reinterpret_cast<const Box*>(given);
  const std::vector<uint32_t> order = order_of(scores, n), curve = along_curve(boxes, n);
  std::vector<uint32_t> bundle_of(n);
  for (int64_t i = 0; i < n; ++i) bundle_of[curve[i]] = uint32_t(i / kBundle);
  const int64_t most = (n + kBundle - 1) / kBundle;
  std::vector<Bundle> bundles(most);
  std::vector<uint8_t> sizes(most);
  Bounds bounds(most);

  const float factor = threshold / (1 + threshold) * (1 - 8e-6f);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Box box = boxes[order[i]];
    const Point point = point_of(box);
    if (interacts(point)) {
      const float bound = area(box) * factor;
      const uint32_t own = bundle_of[order[i]];
      bool suppressed = suppressed_by(bundles[own], box, bound, threshold);
      const Range range = range_of(point, threshold);
      for (int64_t first = 0; first < bounds.size() && !suppressed; first += kLanes)
        for (uint32_t word = bounds.meet(first, range); word != 0 && !suppressed; word &= word - 1)
          suppressed = suppressed_by(bundles[first + __builtin_ctz(word)], box, bound, threshold);
      if (suppressed) continue;
      bundles[own].set(sizes[own]++, box, bound);
      bounds.extend(own, point, point);
    }
    kept[count++] = order[i];
  }
  return count;
}
