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
using pyrcnn::PYRCNN_ISA::load;
using pyrcnn::PYRCNN_ISA::store;

using pyrcnn::PYRCNN_ISA::kSums;
using pyrcnn::PYRCNN_ISA::multiply_add;

constexpr int kPanelPacks = kPanel<float> / kLanes;

// What a convolution reads: its value c for result i is at[c / run * step + i * pixel + c % run].
template <typename T> struct Source {
  const T* at;
  int64_t pixel, run, step;
};

// Where one panel of its results goes, and what is done before it is written.
template <typename T> struct Target {
  T* at;
  int64_t pixel;
  int64_t channels;  // that are written, of kPanel
  int64_t zeros;     // that are written behind them
  const T* begin;    // the sums begin with these: the bias of every pixel (begin_pixel 0) or sums so far
  int64_t begin_pixel;
  const T* other;  // added, or null; pixels apart as in the result
  float low, high;
};

PYRCNN_HD P clamped(P value, P low, P high) {  // so that NaN stays
  value = low > value ? low : value;
  return high < value ? high : value;
}

// The results of one pack, `channels` or more of which are wanted.
PYRCNN_HD void put(float* to, P value, int64_t channels) {
  if (channels >= kLanes) return store(to, value);
  for (int64_t i = 0; i < channels; ++i) to[i] = value[i];
}
PYRCNN_HD P take(const float* from, int64_t channels) {
  if (channels >= kLanes) return load(from);
  P value{};
  for (int64_t i = 0; i < channels; ++i) value[i] = from[i];
  return value;
}

// What multiplies in float32: the processor's registers.
struct Registers {
  using T = float;
};

// `Rows` pixels from `row` on times a panel of weights [depth, kPanel], of which the first `Packs` packs are wanted.
// Pixel: the distance of the pixels, and the length of a run, where both are known, else 0.
template <int Rows, int Packs, int Pixel>
PYRCNN_HD void multiply_rows(const Source<float>& from, int64_t row, int64_t depth, const float* weight,
                             const Target<float>& to) {
  const int64_t pixel = Pixel ? Pixel : from.pixel, run = Pixel ? Pixel : from.run;
  P sum[Rows][Packs];
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] =
      load(to.begin + (row + r) * to.begin_pixel + p * kLanes);
  const float* left = from.at + row * pixel;
  for (; depth >= run; depth -= run, left += from.step, weight += run * kPanel<float>)
    multiply_add<kPanel<float>>(sum, left, pixel, run, weight);
  if (depth > 0) multiply_add<kPanel<float>>(sum, left, pixel, depth, weight);
  const int64_t to_pixel = to.pixel, channels = to.channels;
  float* at = to.at + row * to_pixel;
  if (to.other) {
    const float* other = to.other + row * to_pixel;
    UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] +=
        take(other + r * to_pixel + p * kLanes, channels - p * kLanes);
  }
  const P low = to.low - P{}, high = to.high - P{};
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] =
      clamped(sum[r][p], low, high);
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

template <int Rows, int Packs, int Pixel>
PYRCNN_HD void multiply_few(int64_t rows, const Source<float>& from, int64_t row, int64_t depth, const float* weight,
                            const Target<float>& to) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return multiply_rows<Rows, Packs, Pixel>(from, row, depth, weight, to);
    multiply_few<Rows - 1, Packs, Pixel>(rows, from, row, depth, weight, to);
  }
}

template <int Packs, int Pixel>
PYRCNN_HD void multiply_all(const Source<float>& from, int64_t pixels, int64_t depth, const float* weight,
                            const Target<float>& to) {
  constexpr int rows = kSums / Packs;
  int64_t row = 0;
  for (; row + 2 * rows <= pixels; row += rows) multiply_rows<rows, Packs, Pixel>(from, row, depth, weight, to);
  const int64_t rest = pixels - row, half = rest > rows ? (rest + 1) / 2 : rest;  // rather 4 and 4 than 6 and 2
  multiply_few<rows, Packs, Pixel>(half, from, row, depth, weight, to);
  multiply_few<rows, Packs, Pixel>(rest - half, from, row + half, depth, weight, to);
}

// Its own function: the copies of the loops above are many.
template <int Pixel>
__attribute__((noinline)) void multiply_panel(const Source<float>& from, int64_t pixels, int64_t depth,
                                              const float* weight, const Target<float>& to) {
  if constexpr (kPanelPacks > 1) {
    if (to.channels <= kPanel<float> / 2) return multiply_all<kPanelPacks / 2, Pixel>(from, pixels, depth, weight, to);
  }
  multiply_all<kPanelPacks, Pixel>(from, pixels, depth, weight, to);
}

// One panel of results: weight [depth, kPanel].
void multiply(Registers&, const Source<float>& from, int64_t pixels, int64_t depth, const float* weight,
              const Target<float>& to) {
  if (from.pixel == kPanel<float> && from.run == kPanel<float>)
    return multiply_panel<kPanel<float>>(from, pixels, depth, weight, to);
  multiply_panel<0>(from, pixels, depth, weight, to);
}

// A panel of a 1x1 convolution: the bias first, then the weights.
template <typename T> PYRCNN_HD const T* bias_of(const Pointwise<T>& layer, int64_t panel) {
  return layer.weight + panel * (kBiasRows<T> + layer.inputs) * kPanel<T>;
}
template <typename T> PYRCNN_HD const T* weight_of(const Pointwise<T>& layer, int64_t panel) {
  return bias_of(layer, panel) + kBiasRows<T> * kPanel<T>;
}

// A panel of its results in the workspace. What is behind the last channel is multiplied in tiles, and so must be zero.
template <typename T> PYRCNN_HD Target<T> between(const Pointwise<T>& layer, int64_t panel, T* at) {
  const int64_t rest = layer.outputs - panel * kPanel<T>, channels = kInTiles<T> && rest < kPanel<T> ? rest : kPanel<T>;
  return {at, kPanel<T>, channels, kPanel<T> - channels, bias_of(layer, panel), 0, nullptr, layer.low, layer.high};
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
