// Convolutions in a row, tile by tile: [1x1 ->] [depthwise 3x3 ->] 1x1 [-> 1x1], each with a bias and a clamp. What
// they pass on stays in the caches: MobileNetV2's blocks (Sandler et al. 2018) widen a map six times in between.
#pragma once
#include "../common/hd.h"

namespace pyrcnn::conv_chain {

constexpr int kPanel = 16;  // outputs whose weights lie together
constexpr int kKernel = 3;  // of the depthwise convolution, both sides
constexpr int kStrip = 24;  // pixels between the last two 1x1 convolutions: 24 KiB at 256 channels

// A 1x1 convolution. weight is [panels, 1 + inputs, kPanel], the row before an input's being the bias; null: none.
struct Pointwise {
  const float* weight;
  int64_t inputs, outputs;
  float low, high;
};

// The depthwise one: weight [panels, 1 + 9, kPanel], the bias first; null: none.
struct Depthwise {
  const float* weight;
  int64_t stride, top, left;  // top, left: rows and columns of zeros before the map
  float low, high;
};

struct Chain {
  Pointwise expand;
  Depthwise depthwise;
  Pointwise project, last;
  int64_t height, width, inputs;    // of the input [images, height, width, inputs]
  int64_t rows, columns, outputs;   // of the result; without a depthwise convolution all pixels are one row
  int64_t tile_rows, tile_columns;  // of the result, at most, in a task
  int64_t chunk;                    // panels between expand and project that are in the workspace at a time
  const float* input;
  const float* other;  // like the result, or null: added before the last clamp
  float* output;       // [images, rows, columns, outputs]
};

// The work of one thread at a time: a rectangle of the result.
struct Task {
  int64_t image, row, column, rows, columns;
};

PYRCNN_HD int64_t panels(int64_t channels) { return ceil_div(channels, kPanel); }
PYRCNN_HD int64_t middle(const Chain& c) { return c.project.inputs; }

// Columns of the input that a tile of the result sees.
PYRCNN_HD int64_t source_columns(const Chain& c, int64_t columns) {
  return c.depthwise.weight ? (columns - 1) * c.depthwise.stride + kKernel : columns;
}

// Where things lie in the workspace of a task.
struct Workspace {
  int64_t ring;    // [chunk][kKernel or 1][source_columns][kPanel]: rows of the input, expanded
  int64_t mid;     // [chunk][tile_columns][kPanel]: a row of the depthwise convolution
  int64_t hidden;  // [panels of project][kStrip][kPanel]: between project and last
  int64_t sums;    // [panels of project][tile_rows * tile_columns][kPanel]: of the chunks so far
  int64_t floats;
};
PYRCNN_HD Workspace workspace_of(const Chain& c) {
  const bool rows = c.expand.weight || c.depthwise.weight;
  const int64_t slots = c.depthwise.weight ? kKernel : 1, hidden = panels(c.project.outputs);
  Workspace w{};
  w.mid = rows ? c.chunk * slots * source_columns(c, c.tile_columns) * kPanel : 0;
  w.hidden = w.mid + (c.depthwise.weight ? c.chunk * c.tile_columns * kPanel : 0);
  w.sums = w.hidden + (c.last.weight ? hidden * kStrip * kPanel : 0);
  w.floats = w.sums + (c.chunk < panels(middle(c)) ? hidden * c.tile_rows * c.tile_columns * kPanel : 0);
  return w;
}

}  // namespace pyrcnn::conv_chain
