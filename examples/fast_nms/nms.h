// The rule that every step applies to the last bit: boxes are visited by descending score, equal scores by lower index,
// and a kept box suppresses another if their IoU is greater than the threshold. Compile with -ffp-contract=off: a fused
// multiply-add would change the last bit of an IoU.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

struct Box {
  float x1, y1, x2, y2;
};

inline float area(const Box& b) { return (b.x2 - b.x1) * (b.y2 - b.y1); }

inline float intersection(const Box& a, const Box& b) {
  const float w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  return std::max(w, 0.0f) * std::max(h, 0.0f);
}

inline bool suppresses(const Box& kept, const Box& box, float kept_area, float box_area, float threshold) {
  const float inter = intersection(kept, box);
  return inter / (kept_area + box_area - inter) > threshold;
}

// Each step defines this function. boxes [n, 4] and scores [n] are finite; writes the indices of the kept boxes to
// `kept` [n] and returns how many there are. threshold is between 0.001 and 1. Only step 7 uses several threads.
extern "C" int64_t nms(const float* boxes, const float* scores, int64_t n, float threshold, int threads, int64_t* kept);
