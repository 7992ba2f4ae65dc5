// 3x3 convolution by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016): a tile of 4x4 results takes 36
// instead of 144 multiplications per input and output channel. The points are 0, ±sqrt(1/2), ±sqrt(2) and infinity. In
// float32 their rounding error is half that of the usual 0, ±1, ±2, and hardly more than a direct convolution's.
#pragma once
#include "common/math/hd.h"

namespace pyrcnn::winograd {

constexpr int kTile = 4;   // height and width of a tile of results
constexpr int kPatch = 6;  // height and width of the pixels that a tile is computed from
constexpr int kPlanes = kPatch * kPatch;
constexpr int kPanel = 16;                                // outputs whose weights lie side by side
constexpr float kNear = 0.70710678f, kFar = 1.41421356f;  // the points beside 0: sqrt(1/2) and sqrt(2)

// One dimension of the input transform: B^T d.
template <typename C> PYRCNN_HD void transform_input(const C* d, C* v) {
  const C even1 = d[4] - 2.0f * d[2], odd1 = kNear * (d[3] - 2.0f * d[1]);
  const C even2 = d[4] - 0.5f * d[2], odd2 = kFar * (d[3] - 0.5f * d[1]);
  v[0] = d[0] + d[4] - 2.5f * d[2];
  v[1] = even1 + odd1;
  v[2] = even1 - odd1;
  v[3] = even2 + odd2;
  v[4] = even2 - odd2;
  v[5] = d[1] + d[5] - 2.5f * d[3];
}

// One dimension of the output transform: A^T m.
template <typename C> PYRCNN_HD void transform_output(const C* m, C* y) {
  const C even1 = m[1] + m[2], odd1 = kNear * (m[1] - m[2]), even2 = m[3] + m[4], odd2 = kFar * (m[3] - m[4]);
  y[0] = m[0] + even1 + even2;
  y[1] = odd1 + odd2;
  y[2] = 0.5f * even1 + 2.0f * even2;
  y[3] = m[5] + 0.5f * odd1 + 2.0f * odd2;
}

struct Convolution {
  int64_t inputs, outputs;  // channels, both multiples of kPanel
  int64_t height, width;    // pixels
  int64_t tiles_y, tiles_x;
  const float* input;   // [images, height, width, inputs]
  const float* weight;  // [outputs / kPanel, kPlanes, inputs, kPanel], transformed
  const float* bias;    // [outputs] or null
  const float* other;   // added; null, or of the output's shape
  float low, high;      // the result is clamped to [low, high]
  float* output;        // [images, height, width, outputs]
};

// What a thread computes at a time: these tiles, counted over all images, and these panels of outputs.
struct Task {
  int64_t first_tile, tiles, first_panel, panels;
};

// The distance of the planes in the workspace. It is never a multiple of a memory page, because then all 36 planes
// would compete for one set of the cache.
PYRCNN_HD int64_t plane_stride(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

PYRCNN_HD int64_t workspace_floats(int64_t tiles, int64_t inputs) {
  return inputs + kPlanes * (plane_stride(tiles, inputs) + plane_stride(tiles, kPanel));
}

}  // namespace pyrcnn::winograd
