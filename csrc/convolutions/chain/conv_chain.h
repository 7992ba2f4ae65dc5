// Several convolutions in a row: [1x1 or 3x3 ->] [depthwise 3x3 ->] 1x1 [-> 1x1], each with a bias and a clamp, in
// float32. Threads compute rectangles of the result, so what one convolution passes to the next stays in the caches.
// MobileNetV2's blocks (Sandler et al. 2018) gain most: their inner feature maps have six times as many channels.
#pragma once
#include "common/math/hd.h"

namespace pyrcnn::conv_chain {

// A panel is 16 channels: as many outputs have their weights side by side, and as many channels of a pixel lie side by
// side in the workspace. That is a cache line.
constexpr int kPanel = 16;
constexpr int kKernel = 3;  // height and width of a 3x3 convolution
constexpr int kTaps = kKernel * kKernel;

// Pixels between the last two 1x1 convolutions that are in the workspace at a time: 24 KiB at 256 channels.
constexpr int kHiddenPixels = 24;

// A 1x1 convolution, or the 3x3 one at the beginning. weight is [panels, 1 + inputs, kPanel]; the first row is the
// bias. A null weight means that the chain does not have this convolution.
struct Pointwise {
  const float* weight;
  int64_t inputs, outputs;
  float low, high;
};

// The depthwise convolution: weight [panels, 1 + kTaps, kPanel], the bias first, or null.
struct Depthwise {
  const float* weight;
  int64_t stride, top, left;  // top, left: rows and columns of zeros before the feature map
  float low, high;
};

// How a 3x3 convolution at the beginning reads the input, which may have any memory layout: often it is the image. The
// weight of `expand` then has its rows in the order [kKernel, inputs, kKernel].
struct Expand3x3 {
  int64_t stride;  // 0: the first convolution is 1x1
  int64_t top, left;
  int64_t height, width;  // of the input
  int64_t image_step, channel_step, row_step, column_step;
};

struct Chain {
  Pointwise expand;
  Expand3x3 expand3x3;
  Depthwise depthwise;
  Pointwise project, last;
  int64_t height, width;            // of what the depthwise convolution reads: the input, or the result of expand3x3
  int64_t inputs;                   // channels of the input [images, height, width, inputs]
  int64_t rows, columns, outputs;   // of the result; without a depthwise convolution all pixels are one row
  int64_t task_rows, task_columns;  // of the result, at most, in a task
  int64_t chunk;                    // panels of expanded channels that are in the workspace at a time
  const float* input;
  const float* other;  // added before the last clamp; null, or of the result's shape
  int64_t up;          // 2 if `other` has half the height and width, and each of its pixels is added to four; else 1
  float* output;       // [images, rows, columns, outputs]
};

// What a thread computes at a time: a rectangle of the result.
struct Task {
  int64_t image, row, column, rows, columns;
};

PYRCNN_HD int64_t panels(int64_t channels) { return ceil_div(channels, kPanel); }

// The channels that project reads.
PYRCNN_HD int64_t expanded_channels(const Chain& c) { return c.project.inputs; }

// Whether rows of expanded channels are in the workspace. Otherwise project reads the input.
PYRCNN_HD bool uses_ring(const Chain& c) { return c.expand.weight || c.depthwise.weight; }

// Rows of expanded channels that are in the workspace: those that a row of the next convolution reads.
PYRCNN_HD int64_t ring_rows(const Chain& c) { return c.depthwise.weight ? kKernel : 1; }

// Columns that the depthwise convolution reads for so many columns of the result.
PYRCNN_HD int64_t source_columns(const Chain& c, int64_t columns) {
  return c.depthwise.weight ? (columns - 1) * c.depthwise.stride + kKernel : columns;
}

// Columns of the input that a 3x3 expand reads for so many of its results.
PYRCNN_HD int64_t patch_columns(const Chain& c, int64_t columns) {
  return (columns - 1) * c.expand3x3.stride + kKernel;
}

// A result is narrow if it has at most kNarrow channels. A pack of outputs would be mostly filler then, so each output
// is a dot product of packs instead.
constexpr int64_t kNarrow = 4;
PYRCNN_HD bool is_narrow(const Chain& c) {
  return c.last.weight && c.outputs <= kNarrow && c.last.inputs % kPanel == 0;
}

// Where things lie in the workspace of a task.
struct Workspace {
  int64_t ring;       // [chunk][ring_rows][source_columns][kPanel]: what the depthwise convolution reads
  int64_t filtered;   // [chunk][task_columns][kPanel]: a row of the depthwise convolution's results
  int64_t hidden;     // [panels of project][kHiddenPixels][kPanel]: between project and last
  int64_t sums;       // [panels of project][task_rows * task_columns][kPanel]: of the chunks so far
  int64_t patch;      // [kKernel][inputs][patch_columns]: what expand3x3 reads for a row of its results
  int64_t upsampled;  // [task_columns][outputs]: a row of `other`, each pixel twice
  int64_t narrow;     // [outputs][inputs of last]: the weights of `last`, if the result is narrow
  int64_t floats;
};
PYRCNN_HD Workspace workspace_of(const Chain& c) {
  const int64_t hidden = panels(c.project.outputs), seen = source_columns(c, c.task_columns);
  int64_t end = 0;
  const auto take = [&](bool wanted, int64_t floats) {  // whole cache lines
    const int64_t begin = end;
    end += wanted ? ceil_div(floats, kPanel) * kPanel : 0;
    return begin;
  };
  Workspace w{};
  w.ring = take(uses_ring(c), c.chunk * ring_rows(c) * seen * kPanel);
  w.filtered = take(c.depthwise.weight, c.chunk * c.task_columns * kPanel);
  w.hidden = take(c.last.weight, hidden * kHiddenPixels * kPanel);
  w.sums = take(c.chunk < panels(expanded_channels(c)), hidden * c.task_rows * c.task_columns * kPanel);
  w.patch = take(c.expand3x3.stride, kKernel * c.inputs * patch_columns(c, seen));
  w.upsampled = take(c.up > 1, c.task_columns * c.outputs);
  w.narrow = take(is_narrow(c), c.outputs * c.last.inputs);
  w.floats = end;
  return w;
}

}  // namespace pyrcnn::conv_chain
