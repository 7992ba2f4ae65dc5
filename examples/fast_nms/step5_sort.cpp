// Step 5: where few boxes are kept, sorting the scores takes most of the time. A radix sort of integer keys replaces
// it.
#include "simd.h"
#include "sort.h"

int64_t nms(const float* boxes, const float* scores, int64_t n, float threshold, int, int64_t* kept) {
  const std::vector<uint32_t> order = order_of(scores, n);
  return suppress_in_turn(reinterpret_cast<const Box*>(boxes), order.data(), n, threshold, kept);
}
