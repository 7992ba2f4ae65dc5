// Step 4: the kept boxes lie in bundles of 16, coordinate by coordinate. One comparison tests eight of them; its result
// is a word of bits, and most words are zero.
#include <numeric>

#include "simd.h"

int64_t nms(const float* boxes, const float* scores, int64_t n, float threshold, int, int64_t* kept) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  return suppress_in_turn(reinterpret_cast<const Box*>(boxes), order.data(), n, threshold, kept);
}
