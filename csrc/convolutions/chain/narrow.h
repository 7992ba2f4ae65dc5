// The last convolution of a chain whose result is narrow. Included by conv_chain_kernel.cpp only.
#pragma once
#include "products.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

// Adds up the lanes of a pack: the two halves are added until one lane is left.
PYRCNN_HD float sum_lanes(P value) {
  float lanes[kLanes];
  store(lanes, value);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// `Rows` pixels of `hidden` times the weights [Outputs][depth].
template <int Rows, int Outputs>
PYRCNN_HD void multiply_narrow_rows(const float* hidden, int64_t depth, const float* weight, const float* bias,
                                    const Target& to) {
  P sum[Rows][Outputs] = {};
  for (int64_t c = 0; c < depth; c += kPanel, hidden += kHiddenPixels * kPanel) {
    for (int k = 0; k < kPanel; k += kLanes) {
      P right[Outputs];
      for (int o = 0; o < Outputs; ++o) right[o] = load(weight + o * depth + c + k);
      for (int r = 0; r < Rows; ++r) {
        const P left = load(hidden + r * kPanel + k);
        for (int o = 0; o < Outputs; ++o) sum[r][o] = fma(left, right[o], sum[r][o]);
      }
    }
  }
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int o = 0; o < Outputs; ++o) {
    float value = sum_lanes(sum[r][o]) + bias[o];
    if (to.other) value += to.other[r * to.pixel + o];
    to.at[r * to.pixel + o] = lower(to.high, higher(to.low, value));  // NaN stays NaN
  }
}

template <int Outputs>
void multiply_narrow(const float* hidden, int64_t pixels, int64_t depth, const float* weight, const float* bias,
                     const Target& to) {
  constexpr int rows = kSums / Outputs;
  int64_t i = 0;
  const auto target = [&] {  // of the pixels from i on
    Target part = to;
    part.at += i * to.pixel;
    if (to.other) part.other += i * to.pixel;
    return part;
  };
  for (; i + rows <= pixels; i += rows)
    multiply_narrow_rows<rows, Outputs>(hidden + i * kPanel, depth, weight, bias, target());
  for (; i < pixels; ++i) multiply_narrow_rows<1, Outputs>(hidden + i * kPanel, depth, weight, bias, target());
}

// `last` of `pixels` pixels of `hidden`; `weight` is what transpose_narrow_weight() wrote.
void multiply_narrow(const Chain& c, const float* hidden, int64_t pixels, const float* weight, const Target& to) {
  const float* bias = bias_of(c.last, 0);
  switch (c.outputs) {
    case 1: return multiply_narrow<1>(hidden, pixels, c.last.inputs, weight, bias, to);
    case 2: return multiply_narrow<2>(hidden, pixels, c.last.inputs, weight, bias, to);
    case 3: return multiply_narrow<3>(hidden, pixels, c.last.inputs, weight, bias, to);
    default: return multiply_narrow<4>(hidden, pixels, c.last.inputs, weight, bias, to);
  }
}
static_assert(kNarrow == 4);

// Transposes the weights of `last` to [outputs][inputs].
void transpose_narrow_weight(const Chain& c, float* to) {
  const float* weight = weight_of(c.last, 0);
  for (int64_t k = 0; k < c.last.inputs; ++k)
    for (int64_t o = 0; o < c.outputs; ++o) to[o * c.last.inputs + k] = weight[k * kPanel + o];
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
