// The rows that the depthwise convolution reads, and the rows that it writes. Included by conv_chain_kernel.cpp only.
#pragma once
#include "products.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

void zero(float* at, int64_t floats) { memset(at, 0, sizeof(float) * size_t(floats)); }

// Copies channels of pixels that are `step` apart to a panel [pixels, kPanel]; missing channels become zero.
void copy_panel(const float* from, int64_t step, int64_t pixels, int64_t channels, float* to) {
  if (channels >= kPanel) {
    for (int64_t i = 0; i < pixels; ++i) memcpy(to + i * kPanel, from + i * step, sizeof(float) * kPanel);
    return;
  }
  constexpr int64_t kPiece = 4;
  zero(to, pixels * kPanel);
  for (int64_t i = 0; i < pixels; ++i, from += step, to += kPanel) {
    int64_t c = 0;
    for (; c + kPiece <= channels; c += kPiece) memcpy(to + c, from + c, sizeof(float) * kPiece);
    for (; c < channels; ++c) to[c] = from[c];
  }
}

// Copies what expand3x3 reads for results [first, first + count) of its row `row` to
// [kKernel][inputs][patch_columns(count)], with zeros outside the input.
void gather_patch(const Chain& c, int64_t image, int64_t row, int64_t first, int64_t count, float* patch) {
  const Expand3x3& w = c.expand3x3;
  const int64_t columns = patch_columns(c, count), begin = first * w.stride - w.left, end = begin + columns;
  const int64_t before = begin < 0 ? -begin : 0, after = end > w.width ? end - w.width : 0;
  for (int i = 0; i < kKernel; ++i) {
    const int64_t y = row * w.stride + i - w.top;
    if (y < 0 || y >= w.height) {
      zero(patch, c.inputs * columns);
      patch += c.inputs * columns;
      continue;
    }
    const float* from = c.input + image * w.image_step + y * w.row_step + (begin + before) * w.column_step;
    for (int64_t k = 0; k < c.inputs; ++k, patch += columns, from += w.channel_step) {
      zero(patch, before);
      zero(patch + columns - after, after);
      const int64_t inside = columns - before - after;
      if (w.column_step == 1) memcpy(patch + before, from, sizeof(float) * size_t(inside));
      else
        for (int64_t x = 0; x < inside; ++x) patch[before + x] = from[x * w.column_step];
    }
  }
}

// What a 1x1 convolution reads of the input's pixels.
PYRCNN_HD Source pixels_of(const Chain& c, const float* pixels) { return {pixels, c.inputs, c.inputs, c.inputs}; }

// Fills a row of the ring: `count` columns from `first` on of panels [panel, panel + chunk). A panel's rows lie `pitch`
// after those of the panel before.
void fill_row(const Chain& c, int64_t image, int64_t row, int64_t first, int64_t count, int64_t panel, int64_t chunk,
              float* ring, int64_t pitch, float* patch) {
  const int64_t before = first < 0 ? -first : 0, end = first + count;
  const int64_t after = end > c.width ? end - c.width : 0, inside = count - before - after;
  if (row < 0 || row >= c.height || inside <= 0) {
    for (int64_t p = 0; p < chunk; ++p) zero(ring + p * pitch, count * kPanel);
    return;
  }
  Source from;
  if (c.expand3x3.stride) {
    gather_patch(c, image, row, first + before, inside, patch);
    from = {patch, c.expand3x3.stride, kKernel, patch_columns(c, inside)};
  } else {
    from = pixels_of(c, c.input + ((image * c.height + row) * c.width + first + before) * c.inputs);
  }
  for (int64_t p = 0; p < chunk; ++p, ring += pitch) {
    float* to = ring + before * kPanel;
    zero(ring, before * kPanel);
    zero(to + inside * kPanel, after * kPanel);
    const int64_t channel = (panel + p) * kPanel;
    if (c.expand.weight)
      multiply(from, inside, c.expand.inputs, weight_of(c.expand, panel + p), workspace_panel(c.expand, panel + p, to));
    else copy_panel(from.at + channel, c.inputs, inside, c.inputs - channel, to);
  }
}

// A row of one panel of the depthwise convolution: rows[i] -> to, both [columns][kPanel].
template <int Stride>
PYRCNN_HD void filter_panel(const Depthwise& layer, const float* const* rows, const float* weight, int64_t columns,
                            float* to) {
  for (int k = 0; k < kPanel; k += kLanes) {
    P taps[kTaps];
    for (int t = 0; t < kTaps; ++t) taps[t] = load(weight + (1 + t) * kPanel + k);
    const P bias = load(weight + k), low = layer.low - P{}, high = layer.high - P{};
    for (int64_t i = 0; i < columns; ++i) {
      P sum = bias;
      for (int t = 0; t < kTaps; ++t)
        sum = fma(load(rows[t / kKernel] + (i * Stride + t % kKernel) * kPanel + k), taps[t], sum);
      store(to + i * kPanel + k, clamp_or_nan(sum, low, high));
    }
  }
}

// A row of `chunk` panels of the depthwise convolution. The first of its three rows is `top` in the ring, modulo three.
void filter_row(const Chain& c, int64_t top, int64_t columns, int64_t panel, int64_t chunk, const float* ring,
                int64_t ring_row, float* to) {
  const Depthwise& layer = c.depthwise;
  for (int64_t p = 0; p < chunk; ++p, ring += kKernel * ring_row, to += c.task_columns * kPanel) {
    const float* rows[kKernel];
    for (int i = 0; i < kKernel; ++i) rows[i] = ring + (top + i) % kKernel * ring_row;
    const float* weight = layer.weight + (panel + p) * (1 + kTaps) * kPanel;
    if (layer.stride == 1) filter_panel<1>(layer, rows, weight, columns, to);
    else filter_panel<2>(layer, rows, weight, columns, to);
  }
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
