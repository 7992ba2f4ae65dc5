// Rows of what the depthwise convolution sees and of what it makes. Included by conv_chain_kernel.cpp only.
#pragma once
#include "tile_products.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

template <typename T> void zero(T* at, int64_t values) { memset(at, 0, sizeof(T) * size_t(values)); }

// Channels of pixels that are `step` apart, as a panel [pixels, kPanel]; missing ones become zero.
template <typename T> void to_panel(const T* from, int64_t step, int64_t pixels, int64_t channels, T* to) {
  if (channels >= kPanel<T>) {
    for (int64_t i = 0; i < pixels; ++i) memcpy(to + i * kPanel<T>, from + i * step, sizeof(T) * kPanel<T>);
    return;
  }
  constexpr int64_t kPiece = 16 / sizeof(T);
  zero(to, pixels * kPanel<T>);
  for (int64_t i = 0; i < pixels; ++i, from += step, to += kPanel<T>) {
    int64_t c = 0;
    for (; c + kPiece <= channels; c += kPiece) memcpy(to + c, from + c, sizeof(T) * kPiece);
    for (; c < channels; ++c) to[c] = from[c];
  }
}

// The rows of the input under results [first, first + count) of `window`'s row `row`, zeros around it, to
// [kKernel][inputs][patch_columns(count)].
template <typename T>
void gather(const Chain<T>& c, int64_t image, int64_t row, int64_t first, int64_t count, T* patch) {
  const Window& w = c.window;
  const int64_t columns = patch_columns(c, count), begin = first * w.stride - w.left, end = begin + columns;
  const int64_t before = begin < 0 ? -begin : 0, after = end > w.width ? end - w.width : 0;
  for (int i = 0; i < kKernel; ++i) {
    const int64_t y = row * w.stride + i - w.top;
    if (y < 0 || y >= w.height) {
      zero(patch, c.inputs * columns);
      patch += c.inputs * columns;
      continue;
    }
    const T* from = c.input + image * w.step_image + y * w.step_row + (begin + before) * w.step_column;
    for (int64_t k = 0; k < c.inputs; ++k, patch += columns, from += w.step_channel) {
      zero(patch, before);
      zero(patch + columns - after, after);
      const int64_t inside = columns - before - after;
      if (w.step_column == 1) memcpy(patch + before, from, sizeof(T) * size_t(inside));
      else
        for (int64_t x = 0; x < inside; ++x) patch[before + x] = from[x * w.step_column];
    }
  }
}

// What the first 1x1 convolution reads of `count` pixels of the input: those themselves,
PYRCNN_HD Source<float> pixels_of(const Chain<float>& c, const float* pixels, int64_t, float*) {
  return {pixels, c.inputs, c.inputs, c.inputs};
}
// ... or, where they are not whole tiles, a copy [panels][whole groups][kPanel].
Source<BFloat16> pixels_of(const Chain<BFloat16>& c, const BFloat16* pixels, int64_t count, BFloat16* copy) {
  constexpr int64_t panel = kPanel<BFloat16>;
  const int64_t step = whole_groups<BFloat16>(count) * panel;
  if (c.inputs % panel == 0 && step == count * panel) return {pixels, c.inputs, c.inputs, c.inputs};
  BFloat16* to = copy;
  for (int64_t k = 0; k < c.inputs; k += panel, to += step) to_panel(pixels + k, c.inputs, count, c.inputs - k, to);
  return {copy, panel, panel, step};
}

// What `window`'s convolution reads for `count` results: what gather() made,
PYRCNN_HD Source<float> patches_of(const Chain<float>& c, const float* patch, int64_t count, float*) {
  return {patch, c.window.stride, kKernel, patch_columns(c, count)};
}
// ... or a copy [count][whole depth]: under each result, the kKernel values of each row of each input.
Source<BFloat16> patches_of(const Chain<BFloat16>& c, const BFloat16* patch, int64_t count, BFloat16* copy) {
  const int64_t columns = patch_columns(c, count), depth = c.expand.inputs, runs = kKernel * c.inputs;
  zero(copy, count * depth);
  BFloat16* to = copy;
  for (int64_t i = 0; i < count; ++i, to += depth, patch += c.window.stride)
    for (int64_t k = 0; k < runs; ++k) memcpy(to + k * kKernel, patch + k * columns, sizeof(BFloat16) * kKernel);
  return {copy, depth, depth, 0};
}

// A row of what the depthwise convolution sees, into a slot of the ring: columns from `first` on, `count` of them,
// panels of the chunk.
template <class Unit, typename T = typename Unit::T>
void fill(Unit& unit, const Chain<T>& c, int64_t image, int64_t row, int64_t first, int64_t count, int64_t panel,
          int64_t chunk, T* slot, int64_t pitch, T* patch, T* copy) {
  const int64_t before = first < 0 ? -first : 0, end = first + count;
  const int64_t after = end > c.width ? end - c.width : 0, inside = count - before - after;
  if (row < 0 || row >= c.height || inside <= 0) {
    for (int64_t p = 0; p < chunk; ++p) zero(slot + p * pitch, count * kPanel<T>);
    return;
  }
  const T* pixels = c.input + ((image * c.height + row) * c.width + first + before) * c.inputs;
  Source<T> from{};
  if (c.window.stride) {
    gather(c, image, row, first + before, inside, patch);
    from = patches_of(c, patch, inside, copy);
  } else if (c.expand.weight) {
    from = pixels_of(c, pixels, inside, copy);
  }
  for (int64_t p = 0; p < chunk; ++p, slot += pitch) {
    T* to = slot + before * kPanel<T>;
    zero(slot, before * kPanel<T>);
    zero(to + inside * kPanel<T>, after * kPanel<T>);
    const int64_t channel = (panel + p) * kPanel<T>;
    if (c.expand.weight)
      multiply(unit, from, inside, c.expand.inputs, weight_of(c.expand, panel + p), between(c.expand, panel + p, to));
    else to_panel(pixels + channel, c.inputs, inside, c.inputs - channel, to);
  }
}

// A row of one panel of the depthwise convolution: rows[i] -> to, both [columns][kPanel].
template <int Stride>
PYRCNN_HD void filter(Registers&, const Depthwise<float>& layer, const float* const* rows, const float* weight,
                      int64_t columns, float* to) {
  const int64_t stride = Stride ? Stride : layer.stride;
  for (int k = 0; k < kPanel<float>; k += kLanes) {
    P taps[kTaps];
    for (int t = 0; t < kTaps; ++t) taps[t] = load(weight + (1 + t) * kPanel<float> + k);
    const P bias = load(weight + k), low = layer.low - P{}, high = layer.high - P{};
    for (int64_t i = 0; i < columns; ++i) {
      P sum = bias;
      for (int t = 0; t < kTaps; ++t)
        sum = fma(load(rows[t / kKernel] + (i * stride + t % kKernel) * kPanel<float> + k), taps[t], sum);
      store(to + i * kPanel<float> + k, clamped(sum, low, high));
    }
  }
}

// ... in bfloat16: even and odd channels apart.
template <int Stride, class Tiles>
PYRCNN_HD void filter(InTiles<Tiles>&, const Depthwise<BFloat16>& layer, const BFloat16* const* rows,
                      const BFloat16* weight, int64_t columns, BFloat16* to) {
  constexpr int64_t panel = kPanel<BFloat16>;
  float biases[panel];
  memcpy(biases, weight, sizeof biases);
  weight += kBiasRows<BFloat16> * panel;
  const P low = layer.low - P{}, high = layer.high - P{};
  for (int k = 0; k < panel; k += 2 * kLanes) {
    F taps[kTaps], bias;
    for (int t = 0; t < kTaps; ++t) taps[t] = load_pair(weight + t * panel + k);
    for (int i = 0; i < kLanes; ++i) bias.first[i] = biases[k + 2 * i], bias.second[i] = biases[k + 2 * i + 1];
    const auto results = [&]<int Count>(int64_t i) {  // neighbours, which see the same values, once they are widened
      F sum[Count];
      for (F& s : sum) s = bias;
      UNROLLED for (int t = 0; t < kTaps; ++t) UNROLLED for (int j = 0; j < Count; ++j) {
        const F value = load_pair(rows[t / kKernel] + ((i + j) * Stride + t % kKernel) * panel + k);
        sum[j] = {fma(value.first, taps[t].first, sum[j].first), fma(value.second, taps[t].second, sum[j].second)};
      }
      for (int j = 0; j < Count; ++j)
        Tiles::round(F{clamped(sum[j].first, low, high), clamped(sum[j].second, low, high)}, to + (i + j) * panel + k);
    };
    int64_t i = 0;
    for (; i + 3 <= columns; i += 3) results.template operator()<3>(i);
    for (; i < columns; ++i) results.template operator()<1>(i);
  }
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
