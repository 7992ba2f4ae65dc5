// Step 2: boxes are copied in score order, so that memory is read in sequence, and areas are computed once. A box that
// is suppressed already is not tested again.
#include <numeric>

#include "nms.h"

int64_t nms(const float* boxes, const float* scores, int64_t n, float threshold, int, int64_t* kept) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  std::vector<Box> sorted(n);
  std::vector<float> areas(n);
  for (int64_t i = 0; i < n; ++i) {
    sorted[i] = reinterpret_cast<const Box*>(boxes)[order[i]];
    areas[i] = area(sorted[i]);
  }
  std::vector<uint8_t> suppressed(n);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (suppressed[i]) continue;
    kept[count++] = order[i];
    for (int64_t j = i + 1; j < n; ++j)
      if (!suppressed[j] && suppresses(sorted[i], sorted[j], areas[i], areas[j], threshold)) suppressed[j] = 1;
  }
  return count;
}
