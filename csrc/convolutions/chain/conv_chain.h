// Convolutions in a row, tile by tile: [1x1 or 3x3 ->] [depthwise 3x3 ->] 1x1 [-> 1x1], each with a bias and a clamp.
// What they pass on stays in the caches: MobileNetV2's blocks (Sandler et al. 2018) widen a map six times in between.
// T: what maps are stored as, between the convolutions of a chain too.
#pragma once
#include "common/math/hd.h"
#include "common/tile_kind.h"

namespace pyrcnn::conv_chain {

// Outputs whose weights lie together; so do a pixel's channels in the workspace, where they are a line of the cache.
template <typename T> constexpr int kPanel = 64 / int(sizeof(T));
// Rows of a panel's weights that are its bias, which is float32.
template <typename T> constexpr int kBiasRows = int(sizeof(float) / sizeof(T));
constexpr int kKernel = 3;  // of a 3x3 convolution, both sides
constexpr int kTaps = kKernel * kKernel;

// bfloat16 is multiplied in tiles: 16 pixels at a time, of which those behind a row's end are read and dropped, and 32
// inputs, of which missing ones are zeros.
template <typename T> constexpr bool kInTiles = sizeof(T) == 2;
template <typename T> constexpr int kGroup = kInTiles<T> ? 16 : 1;
template <typename T> constexpr int kDepth = kInTiles<T> ? 32 : 1;
template <typename T> PYRCNN_HD int64_t whole_groups(int64_t pixels) { return ceil_div(pixels, kGroup<T>) * kGroup<T>; }
template <typename T> PYRCNN_HD int64_t whole_depth(int64_t inputs) { return ceil_div(inputs, kDepth<T>) * kDepth<T>; }

// Pixels between the last two 1x1 convolutions: 24 or 32 KiB at 256 channels. Two blocks of tiles, so that one is
// multiplied while the other is finished.
template <typename T> constexpr int kStrip = kInTiles<T> ? 64 : 24;

// A 1x1 convolution. weight is [panels, kBiasRows + inputs, kPanel], the bias in the rows before the inputs'; in tiles
// those are pairs [inputs / 2, kPanel, 2] and a whole_depth(). null: none.
template <typename T> struct Pointwise {
  const T* weight;
  int64_t inputs, outputs;
  float low, high;
};

// The depthwise one: weight [panels, kBiasRows + kTaps, kPanel], the bias first; null: none.
template <typename T> struct Depthwise {
  const T* weight;
  int64_t stride, top, left;  // top, left: rows and columns of zeros before the map
  float low, high;
};

// How a first 3x3 convolution, as of a network's picture, reads the input: in whatever layout that is. Its rows of
// `expand`'s weight are in the order [kKernel, inputs, kKernel].
struct Window {
  int64_t stride;  // 0: the first convolution is 1x1
  int64_t top, left;
  int64_t height, width;  // of the input
  int64_t step_image, step_channel, step_row, step_column;
};

template <typename T> struct Chain {
  Pointwise<T> expand;
  Window window;
  Depthwise<T> depthwise;
  Pointwise<T> project, last;
  int64_t height, width;            // of what the depthwise convolution sees: the input, or what `window` makes of it
  int64_t inputs;                   // of the input [images, height, width, inputs]
  int64_t rows, columns, outputs;   // of the result; without a depthwise convolution all pixels are one row
  int64_t tile_rows, tile_columns;  // of the result, at most, in a task
  int64_t chunk;  // panels between expand and project that are in the workspace at a time; in tiles all
  const T* input;
  const T* other;  // like the result, or null: added before the last clamp
  int64_t up;      // 2: `other` is half as high and wide, and each of its pixels counts for four; else 1
  T* output;       // [images, rows, columns, outputs]
  TileKind tiles;  // of bfloat16, that this machine has
};

// The work of one thread at a time: a rectangle of the result.
struct Task {
  int64_t image, row, column, rows, columns;
};

template <typename T> PYRCNN_HD int64_t panels(int64_t channels) { return ceil_div(channels, kPanel<T>); }
template <typename T> PYRCNN_HD int64_t middle(const Chain<T>& c) { return c.project.inputs; }

// Whether what project reads is in the workspace, not in the input.
template <typename T> PYRCNN_HD bool has_rows(const Chain<T>& c) { return c.expand.weight || c.depthwise.weight; }

// Rows of what the depthwise convolution sees that are in the workspace.
template <typename T> PYRCNN_HD int64_t slots(const Chain<T>& c) { return c.depthwise.weight ? kKernel : 1; }

// Columns of the input that a tile of the result sees.
template <typename T> PYRCNN_HD int64_t source_columns(const Chain<T>& c, int64_t columns) {
  return c.depthwise.weight ? (columns - 1) * c.depthwise.stride + kKernel : columns;
}

// Columns of the input in a row of `window`'s patches, for as many results.
template <typename T> PYRCNN_HD int64_t patch_columns(const Chain<T>& c, int64_t columns) {
  return (columns - 1) * c.window.stride + kKernel;
}

// With so few outputs a pack of them would be mostly filler: each is a dot product of packs instead.
constexpr int64_t kFew = 4;
template <typename T> PYRCNN_HD bool few_outputs(const Chain<T>& c) {
  return !kInTiles<T> && c.last.weight && c.outputs <= kFew && c.last.inputs % kPanel<T> == 0;
}

// Where things lie in the workspace of a task.
struct Workspace {
  int64_t ring;    // [chunk][slots][whole groups of source_columns][kPanel]: rows of the input, expanded
  int64_t mid;     // [chunk][whole groups of tile_columns][kPanel]: a row of the depthwise convolution
  int64_t hidden;  // [panels of project][kStrip][kPanel]: between project and last
  int64_t sums;    // [panels of project][tile_rows * tile_columns][kPanel]: of the chunks so far
  int64_t patch;   // [kKernel][inputs][patch_columns]: the rows of the input under a row of `window`'s results
  int64_t copy;    // [whole groups of source_columns][whole depth]: what the first 1x1 convolution's tiles read
  int64_t twice;   // [tile_columns][outputs]: a row of `other`, each pixel twice
  int64_t few;     // [outputs][inputs of last]: its weights, where there are few outputs
  int64_t values;
};
template <typename T> PYRCNN_HD Workspace workspace_of(const Chain<T>& c) {
  const int64_t hidden = panels<T>(c.project.outputs), seen = source_columns(c, c.tile_columns);
  const int64_t copied = c.expand.weight ? c.expand.inputs : has_rows(c) ? 0 : c.project.inputs;
  int64_t end = 0;
  const auto take = [&](bool wanted, int64_t values) {  // whole lines of the cache
    const int64_t begin = end;
    end += wanted ? ceil_div(values, kPanel<T>) * kPanel<T> : 0;
    return begin;
  };
  Workspace w{};
  w.ring = take(has_rows(c), c.chunk * slots(c) * whole_groups<T>(seen) * kPanel<T>);
  w.mid = take(c.depthwise.weight, c.chunk * whole_groups<T>(c.tile_columns) * kPanel<T>);
  w.hidden = take(c.last.weight, hidden * kStrip<T> * kPanel<T>);
  w.sums = take(c.chunk < panels<T>(middle(c)), hidden * c.tile_rows * c.tile_columns * kPanel<T>);
  w.patch = take(c.window.stride, kKernel * c.inputs * patch_columns(c, seen));
  w.copy = take(kInTiles<T>, whole_groups<T>(seen) * copied);
  w.twice = take(c.up > 1, c.tile_columns * c.outputs);
  w.few = take(few_outputs(c), c.outputs * c.last.inputs);
  w.values = end;
  return w;
}

}  // namespace pyrcnn::conv_chain
