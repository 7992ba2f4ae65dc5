// Step 3: a candidate is compared with the boxes kept before it, until one suppresses it. A product instead of the
// division rejects most pairs: inter / (a + b - inter) > t implies inter > a * t' + b * t' with t' = t / (1 + t). The
// bounds a * t' are lowered by more than the rounding errors, so that no pair is lost; the rule decides on the rest.
#include <numeric>

#include "nms.h"

int64_t nms(const float* boxes, const float* scores, int64_t n, float threshold, int, int64_t* kept) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  const float factor = threshold / (1 + threshold) * (1 - 8e-6f);
  std::vector<Box> kept_boxes(n);
  std::vector<float> bounds(n);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Box box = reinterpret_cast<const Box*>(boxes)[order[i]];
    const float bound = area(box) * factor;
    bool suppressed = false;
    for (int64_t k = 0; k < count && !suppressed; ++k)
      if (intersection(kept_boxes[k], box) > bounds[k] + bound)
        suppressed = suppresses(kept_boxes[k], box, area(kept_boxes[k]), area(box), threshold);
    if (suppressed) continue;
    kept_boxes[count] = box, bounds[count] = bound, kept[count++] = order[i];
  }
  return count;
}
