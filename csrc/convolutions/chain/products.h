// The products of a chain: pixels times a panel of weights. Included by conv_chain_kernel.cpp only.
#pragma once
#include "common/simd/product.h"
#include "conv_chain.h"

#define UNROLLED PYRCNN_UNROLLED

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

using P = pyrcnn::PYRCNN_ISA::Pack<float>;
using pyrcnn::PYRCNN_ISA::fma;
using pyrcnn::PYRCNN_ISA::kLanes;
using pyrcnn::PYRCNN_ISA::kSums;
using pyrcnn::PYRCNN_ISA::load;
using pyrcnn::PYRCNN_ISA::multiply_add;
using pyrcnn::PYRCNN_ISA::store;

constexpr int kPanelPacks = kPanel / kLanes;

// What a convolution reads: its value c for result i is at[c / run * step + i * pixel + c % run].
struct Source {
  const float* at;
  int64_t pixel, run, step;
};

// Where one panel of a convolution's results goes, and what happens to them before they are written.
struct Target {
  float* at;
  int64_t pixel;
  int64_t channels;    // that are written, of kPanel
  const float* begin;  // what the sums begin with: the bias for every pixel (begin_pixel 0), or the sums so far
  int64_t begin_pixel;
  const float* other;  // added, or null; its pixels are as far apart as the result's
  float low, high;
};

PYRCNN_HD P clamp_or_nan(P value, P low, P high) { return lower(high, higher(low, value)); }  // NaN stays NaN

// The first `channels` values of a pack; zeros behind them.
PYRCNN_HD P load_some(const float* from, int64_t channels) {
  if (channels >= kLanes) return load(from);
  P value{};
  for (int64_t i = 0; i < channels; ++i) value[i] = from[i];
  return value;
}

// `Rows` pixels from `row` on times the first `Packs` packs of a panel of weights [depth, kPanel]. Pixel is the
// distance of the pixels and the length of a run if both are known at compile time, else 0.
template <int Rows, int Packs, int Pixel>
PYRCNN_HD void multiply_rows(const Source& from, int64_t row, int64_t depth, const float* weight, const Target& to) {
  const int64_t pixel = Pixel ? Pixel : from.pixel, run = Pixel ? Pixel : from.run;
  P sum[Rows][Packs];
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] =
      load(to.begin + (row + r) * to.begin_pixel + p * kLanes);
  const float* left = from.at + row * pixel;
  for (; depth >= run; depth -= run, left += from.step, weight += run * kPanel)
    multiply_add<kPanel>(sum, left, pixel, run, weight);
  if (depth > 0) multiply_add<kPanel>(sum, left, pixel, depth, weight);
  const int64_t to_pixel = to.pixel, channels = to.channels;
  float* at = to.at + row * to_pixel;
  if (to.other) {
    const float* other = to.other + row * to_pixel;
    UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] +=
        load_some(other + r * to_pixel + p * kLanes, channels - p * kLanes);
  }
  const P low = to.low - P{}, high = to.high - P{};
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] =
      clamp_or_nan(sum[r][p], low, high);
  if (channels >= Packs * kLanes) {
    UNROLLED for (int r = 0; r < Rows; ++r, at += to_pixel) UNROLLED for (int p = 0; p < Packs; ++p)
        store(at + p * kLanes, sum[r][p]);
    return;
  }
  float all[Rows][Packs * kLanes];
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p)
      store(all[r] + p * kLanes, sum[r][p]);
  for (int r = 0; r < Rows; ++r, at += to_pixel)
    for (int64_t i = 0; i < channels; ++i) at[i] = all[r][i];
}

// multiply_rows() for a number of rows that is known only now, at most `Rows`.
template <int Rows, int Packs, int Pixel>
PYRCNN_HD void multiply_up_to(int64_t rows, const Source& from, int64_t row, int64_t depth, const float* weight,
                              const Target& to) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return multiply_rows<Rows, Packs, Pixel>(from, row, depth, weight, to);
    multiply_up_to<Rows - 1, Packs, Pixel>(rows, from, row, depth, weight, to);
  }
}

template <int Packs, int Pixel>
PYRCNN_HD void multiply_all(const Source& from, int64_t pixels, int64_t depth, const float* weight, const Target& to) {
  constexpr int rows = kSums / Packs;
  int64_t row = 0;
  for (; row + 2 * rows <= pixels; row += rows) multiply_rows<rows, Packs, Pixel>(from, row, depth, weight, to);
  const int64_t rest = pixels - row, half = rest > rows ? (rest + 1) / 2 : rest;  // 4 and 4 are faster than 6 and 2
  multiply_up_to<rows, Packs, Pixel>(half, from, row, depth, weight, to);
  multiply_up_to<rows, Packs, Pixel>(rest - half, from, row + half, depth, weight, to);
}

// Not inlined, because it holds many copies of the loops above.
template <int Pixel>
__attribute__((noinline)) void multiply_panel(const Source& from, int64_t pixels, int64_t depth, const float* weight,
                                              const Target& to) {
  if constexpr (kPanelPacks > 1) {
    if (to.channels <= kPanel / 2) return multiply_all<kPanelPacks / 2, Pixel>(from, pixels, depth, weight, to);
  }
  multiply_all<kPanelPacks, Pixel>(from, pixels, depth, weight, to);
}

// One panel of results: weight [depth, kPanel].
void multiply(const Source& from, int64_t pixels, int64_t depth, const float* weight, const Target& to) {
  if (from.pixel == kPanel && from.run == kPanel) return multiply_panel<kPanel>(from, pixels, depth, weight, to);
  multiply_panel<0>(from, pixels, depth, weight, to);
}

// A panel of a 1x1 convolution: the bias first, then the weights.
PYRCNN_HD const float* bias_of(const Pointwise& layer, int64_t panel) {
  return layer.weight + panel * (1 + layer.inputs) * kPanel;
}
PYRCNN_HD const float* weight_of(const Pointwise& layer, int64_t panel) { return bias_of(layer, panel) + kPanel; }

// A panel of results in the workspace.
PYRCNN_HD Target workspace_panel(const Pointwise& layer, int64_t panel, float* at) {
  return {at, kPanel, kPanel, bias_of(layer, panel), 0, nullptr, layer.low, layer.high};
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
