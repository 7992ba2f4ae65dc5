// The last convolution of a chain where it has few outputs. Included by conv_chain_kernel.cpp only.
#pragma once
#include "products.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

// The sums of a pack's lanes: halves are added until one lane is left.
PYRCNN_HD float total(P value) {
  float lanes[kLanes];
  store(lanes, value);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// `Rows` pixels of the hidden row times the weights [Outputs][depth] of few outputs.
template <int Rows, int Outputs>
PYRCNN_HD void multiply_few_outputs(const float* hidden, int64_t depth, const float* weight, const float* bias,
                                    const Target<float>& to) {
  P sum[Rows][Outputs] = {};
  for (int64_t c = 0; c < depth; c += kPanel<float>, hidden += kStrip<float> * kPanel<float>) {
    for (int k = 0; k < kPanel<float>; k += kLanes) {
      P right[Outputs];
      for (int o = 0; o < Outputs; ++o) right[o] = load(weight + o * depth + c + k);
      for (int r = 0; r < Rows; ++r) {
        const P left = load(hidden + r * kPanel<float> + k);
        for (int o = 0; o < Outputs; ++o) sum[r][o] = fma(left, right[o], sum[r][o]);
      }
    }
  }
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int o = 0; o < Outputs; ++o) {
    float value = total(sum[r][o]) + bias[o];
    if (to.other) value += to.other[r * to.pixel + o];
    value = to.low > value ? to.low : value;  // so that NaN stays
    to.at[r * to.pixel + o] = to.high < value ? to.high : value;
  }
}

template <int Outputs>
void strip_of_few(const float* hidden, int64_t pixels, int64_t depth, const float* weight, const float* bias,
                  Target<float> to) {
  constexpr int rows = kSums / Outputs;
  int64_t i = 0;
  const auto step = [&](int64_t count) {
    i += count, hidden += count * kPanel<float>, to.at += count * to.pixel;
    if (to.other) to.other += count * to.pixel;
  };
  for (; i + rows <= pixels; step(rows)) multiply_few_outputs<rows, Outputs>(hidden, depth, weight, bias, to);
  for (; i < pixels; step(1)) multiply_few_outputs<1, Outputs>(hidden, depth, weight, bias, to);
}

// `last` of a strip of pixels, where it has few outputs.
void few(const Chain<float>& c, const float* hidden, int64_t pixels, const float* weight, const Target<float>& to) {
  const float* bias = bias_of(c.last, 0);
  switch (c.outputs) {
    case 1: return strip_of_few<1>(hidden, pixels, c.last.inputs, weight, bias, to);
    case 2: return strip_of_few<2>(hidden, pixels, c.last.inputs, weight, bias, to);
    case 3: return strip_of_few<3>(hidden, pixels, c.last.inputs, weight, bias, to);
    default: return strip_of_few<4>(hidden, pixels, c.last.inputs, weight, bias, to);
  }
}
static_assert(kFew == 4);

// Each output's weights of `last` side by side.
void lay_out_few(const Chain<float>& c, float* to) {
  const float* weight = weight_of(c.last, 0);
  for (int64_t k = 0; k < c.last.inputs; ++k)
    for (int64_t o = 0; o < c.outputs; ++o) to[o * c.last.inputs + k] = weight[k * kPanel<float> + o];
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
