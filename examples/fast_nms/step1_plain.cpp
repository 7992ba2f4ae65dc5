// Step 1: the loop of every textbook. A kept box suppresses those that come later.
#include <numeric>

#include "nms.h"

int64_t nms(const float* boxes, const float* scores, int64_t n, float threshold, int, int64_t* kept) {
  const Box* box = reinterpret_cast<const Box*>(boxes);
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  std::vector<uint8_t> suppressed(n);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (suppressed[i]) continue;
    const Box& mine = box[order[i]];
    kept[count++] = order[i];
    for (int64_t j = i + 1; j < n; ++j) {
      const Box& theirs = box[order[j]];
      if (suppresses(mine, theirs, area(mine), area(theirs), threshold)) suppressed[j] = 1;
    }
  }
  return count;
}
