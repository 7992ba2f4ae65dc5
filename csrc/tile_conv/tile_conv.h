// A 1x1 or 3x3 convolution in bfloat16 by tiles: pixels of a rectangle of the result, 32 at a time, times panels
// of 32 outputs. The input under a rectangle is copied first: with zeros around it and in whole lines of the cache, it
// needs no care at borders, and every place of a 3x3 kernel reads it at an offset.
#pragma once
#include "common/math/hd.h"
#include "common/tile_kind.h"

namespace pyrcnn::tile_conv {

constexpr int kPanel = 32;  // outputs whose weights lie together
constexpr int kLine = 32;   // values in a line of the cache
constexpr int kGroup = 16;  // pixels that are multiplied together

struct Layer {
  int64_t kernel, stride, top, left;  // top, left: rows and columns of zeros before the map
  int64_t inputs, height, width;      // of the input [images, height, width, inputs]
  int64_t outputs, rows, columns;     // of the result
  int64_t tile_rows, tile_columns;    // of the result, at most, in a task
  const void* input;                  // bfloat16
  const void* weight;                 // bfloat16 [panels, kernel * kernel, whole_lines(inputs) / 2, kPanel, 2]
  const float* bias;                  // [panels * kPanel]
  const void* other;                  // like the result, or null: added before the clamp
  float low, high;
  void* output;
  TileKind tiles;  // that the machine has
};

// The work of one thread at a time: a rectangle of the result, and panels of its outputs.
struct Task {
  int64_t image, row, column, rows, columns, panel, panels;
};

PYRCNN_HD int64_t whole_lines(int64_t channels) { return ceil_div(channels, kLine) * kLine; }

// The copy of the input under a rectangle of the result. Of 1x1 convolutions only what is read: its stride is 1.
struct Patch {
  int64_t rows, columns;  // of the copy
  int64_t pixel;          // values from one of its pixels to the next
  int64_t stride;         // of the results in it
  int64_t step;           // of its pixels in the input
};
PYRCNN_HD Patch patch_of(const Layer& l, int64_t rows, int64_t columns) {
  const int64_t stride = l.kernel > 1 ? l.stride : 1, lines = ceil_div(l.inputs, kLine);
  // Pixels that are a power of two of lines apart would share few sets of the first cache.
  return {.rows = (rows - 1) * stride + l.kernel,
          .columns = (columns - 1) * stride + l.kernel,
          .pixel = (lines % 8 == 0 ? lines + 1 : lines) * kLine,
          .stride = stride,
          .step = l.kernel > 1 ? 1 : l.stride};
}

// Values of the workspace of a task: groups at its end read on.
PYRCNN_HD int64_t workspace_values(const Layer& l) {
  const Patch p = patch_of(l, l.tile_rows, l.tile_columns);
  return (p.rows * p.columns + kGroup * p.stride) * p.pixel;
}

}  // namespace pyrcnn::tile_conv
