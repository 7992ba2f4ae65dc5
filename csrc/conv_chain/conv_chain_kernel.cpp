#include "../common/product.h"
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

constexpr int kPanelPacks = kPanel / kLanes;
constexpr int kTaps = kKernel * kKernel;

PYRCNN_HD P clamped(P value, P low, P high) {  // so that NaN stays
  value = low > value ? low : value;
  return high < value ? high : value;
}

// What a convolution reads: its value c for result i is at[c / run * step + i * pixel + c % run].
struct Source {
  const float* at;
  int64_t pixel, run, step;
};

// Where one panel of its results goes, and what is done before it is written.
struct Target {
  float* at;
  int64_t pixel;
  int64_t channels;    // that are written, of kPanel
  const float* begin;  // the sums begin with these: the bias of every pixel (begin_pixel 0) or sums so far
  int64_t begin_pixel;
  const float* other;  // added, or null; pixels apart as in the result
  float low, high;
};

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

// `Rows` pixels from `row` on times a panel of weights [depth, kPanel], of which the first `Packs` packs are wanted.
// Pixel: the distance of the pixels, and the length of a run, where both are known, else 0.
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
PYRCNN_HD void multiply_few(int64_t rows, const Source& from, int64_t row, int64_t depth, const float* weight,
                            const Target& to) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return multiply_rows<Rows, Packs, Pixel>(from, row, depth, weight, to);
    multiply_few<Rows - 1, Packs, Pixel>(rows, from, row, depth, weight, to);
  }
}

template <int Packs, int Pixel>
PYRCNN_HD void multiply_all(const Source& from, int64_t pixels, int64_t depth, const float* weight, const Target& to) {
  constexpr int rows = kSums / Packs;
  int64_t row = 0;
  for (; row + 2 * rows <= pixels; row += rows) multiply_rows<rows, Packs, Pixel>(from, row, depth, weight, to);
  const int64_t rest = pixels - row, half = rest > rows ? (rest + 1) / 2 : rest;  // rather 4 and 4 than 6 and 2
  multiply_few<rows, Packs, Pixel>(half, from, row, depth, weight, to);
  multiply_few<rows, Packs, Pixel>(rest - half, from, row + half, depth, weight, to);
}

// One panel. Its own function: the copies of the loops above are many.
template <int Pixel>
__attribute__((noinline)) void multiply(const Source& from, int64_t pixels, int64_t depth, const float* weight,
                                        const Target& to) {
  if constexpr (kPanelPacks > 1) {
    if (to.channels <= kPanel / 2) return multiply_all<kPanelPacks / 2, Pixel>(from, pixels, depth, weight, to);
  }
  multiply_all<kPanelPacks, Pixel>(from, pixels, depth, weight, to);
}
void multiply(const Source& from, int64_t pixels, int64_t depth, const float* weight, const Target& to) {
  if (from.pixel == kPanel && from.run == kPanel) return multiply<kPanel>(from, pixels, depth, weight, to);
  multiply<0>(from, pixels, depth, weight, to);
}

// The weights of a 1x1 convolution's panel: the bias first.
PYRCNN_HD const float* panel_of(const Pointwise& layer, int64_t panel) {
  return layer.weight + panel * (1 + layer.inputs) * kPanel;
}

void zero(float* at, int64_t floats) { memset(at, 0, sizeof(float) * size_t(floats)); }

// The rows of the input under results [first, first + count) of `window`'s row `row`, zeros around it, to
// [kKernel][inputs][patch_columns(count)].
void gather(const Chain& c, int64_t image, int64_t row, int64_t first, int64_t count, float* patch) {
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
    const float* from = c.input + image * w.step_image + y * w.step_row + (begin + before) * w.step_column;
    for (int64_t k = 0; k < c.inputs; ++k, patch += columns, from += w.step_channel) {
      zero(patch, before);
      zero(patch + columns - after, after);
      const int64_t inside = columns - before - after;
      if (w.step_column == 1) memcpy(patch + before, from, sizeof(float) * size_t(inside));
      else
        for (int64_t x = 0; x < inside; ++x) patch[before + x] = from[x * w.step_column];
    }
  }
}

// A row of what the depthwise convolution sees, into a slot of the ring: columns from `first` on, `count` of them,
// panels of the chunk.
void fill(const Chain& c, int64_t image, int64_t row, int64_t first, int64_t count, int64_t panel, int64_t chunk,
          float* slot, int64_t pitch, float* patch) {
  if (row < 0 || row >= c.height) {
    for (int64_t p = 0; p < chunk; ++p) zero(slot + p * pitch, count * kPanel);
    return;
  }
  const int64_t before = first < 0 ? -first : 0, end = first + count;
  const int64_t after = end > c.width ? end - c.width : 0, inside = count - before - after;
  if (inside <= 0) {
    for (int64_t p = 0; p < chunk; ++p) zero(slot + p * pitch, count * kPanel);
    return;
  }
  const float* pixels = c.input + ((image * c.height + row) * c.width + first + before) * c.inputs;
  Source from{pixels, c.inputs, c.inputs, c.inputs};
  if (c.window.stride) {
    gather(c, image, row, first + before, inside, patch);
    from = {patch, c.window.stride, kKernel, patch_columns(c, inside)};
  }
  for (int64_t p = 0; p < chunk; ++p, slot += pitch) {
    float* to = slot + before * kPanel;
    zero(slot, before * kPanel);
    zero(to + inside * kPanel, after * kPanel);
    if (c.expand.weight) {
      const float* weight = panel_of(c.expand, panel + p);
      multiply(from, inside, c.expand.inputs, weight + kPanel,
               {to, kPanel, kPanel, weight, 0, nullptr, c.expand.low, c.expand.high});
      continue;
    }
    const float* channels = pixels + (panel + p) * kPanel;
    const int64_t count_here = c.inputs - (panel + p) * kPanel;
    if (count_here < kPanel) zero(to, inside * kPanel);
    for (int64_t i = 0; i < inside; ++i)
      for (int k = 0; k < kPanel; k += kLanes)
        if (count_here > k) put(to + i * kPanel + k, take(channels + i * c.inputs + k, count_here - k), count_here - k);
  }
}

// A row of one panel of the depthwise convolution: rows[i] -> to, both [columns][kPanel].
template <int Stride>
PYRCNN_HD void filter(const Depthwise& layer, const float* const* rows, const float* weight, int64_t columns,
                      float* to) {
  const int64_t stride = Stride ? Stride : layer.stride;
  for (int k = 0; k < kPanel; k += kLanes) {
    P taps[kTaps];
    for (int t = 0; t < kTaps; ++t) taps[t] = load(weight + (1 + t) * kPanel + k);
    const P bias = load(weight + k), low = layer.low - P{}, high = layer.high - P{};
    for (int64_t i = 0; i < columns; ++i) {
      P sum = bias;
      for (int t = 0; t < kTaps; ++t)
        sum = fma(load(rows[t / kKernel] + (i * stride + t % kKernel) * kPanel + k), taps[t], sum);
      store(to + i * kPanel + k, clamped(sum, low, high));
    }
  }
}

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
                                    const Target& to) {
  P sum[Rows][Outputs] = {};
  for (int64_t c = 0; c < depth; c += kPanel, hidden += kStrip * kPanel) {
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
    float value = total(sum[r][o]) + bias[o];
    if (to.other) value += to.other[r * to.pixel + o];
    value = to.low > value ? to.low : value;  // so that NaN stays
    to.at[r * to.pixel + o] = to.high < value ? to.high : value;
  }
}

template <int Outputs>
void strip_of_few(const float* hidden, int64_t pixels, int64_t depth, const float* weight, const float* bias,
                  Target to) {
  constexpr int rows = kSums / Outputs;
  int64_t i = 0;
  const auto step = [&](int64_t count) {
    i += count, hidden += count * kPanel, to.at += count * to.pixel;
    if (to.other) to.other += count * to.pixel;
  };
  for (; i + rows <= pixels; step(rows)) multiply_few_outputs<rows, Outputs>(hidden, depth, weight, bias, to);
  for (; i < pixels; step(1)) multiply_few_outputs<1, Outputs>(hidden, depth, weight, bias, to);
}

// `last` of a strip of pixels, where it has few outputs.
void few(const Chain& c, const float* hidden, int64_t pixels, const float* weight, const Target& to) {
  const float* bias = panel_of(c.last, 0);
  switch (c.outputs) {
    case 1: return strip_of_few<1>(hidden, pixels, c.last.inputs, weight, bias, to);
    case 2: return strip_of_few<2>(hidden, pixels, c.last.inputs, weight, bias, to);
    case 3: return strip_of_few<3>(hidden, pixels, c.last.inputs, weight, bias, to);
    default: return strip_of_few<4>(hidden, pixels, c.last.inputs, weight, bias, to);
  }
}
static_assert(kFew == 4);

// Each output's weights of `last` side by side.
void lay_out_few(const Chain& c, float* to) {
  const float* weight = panel_of(c.last, 0) + kPanel;
  for (int64_t k = 0; k < c.last.inputs; ++k)
    for (int64_t o = 0; o < c.outputs; ++o) to[o * c.last.inputs + k] = weight[k * kPanel + o];
}

struct Place {
  int64_t pixel;       // of the result, counted over all images
  int64_t sums;        // in the workspace's sums
  const float* other;  // what is added to that pixel, or null
};

// What is added to a row of the result, from its pixel on.
const float* other_row(const Chain& c, const Task& task, int64_t row, int64_t pixel, float* twice) {
  if (!c.other) return nullptr;
  if (c.up == 1) return c.other + pixel * c.outputs;
  const int64_t columns = c.columns / c.up;
  const float* from = c.other + (task.image * (c.rows / c.up) + row / c.up) * columns * c.outputs;
  for (int64_t x = 0; x < task.columns; ++x)
    memcpy(twice + x * c.outputs, from + (task.column + x) / c.up * c.outputs, sizeof(float) * size_t(c.outputs));
  return twice;
}

// The panels from `panel` on of a row between expand and project -> the result, or sums for the next chunk.
void finish(const Chain& c, const Source& mid, int64_t panel, int64_t chunk, int64_t columns, const Place& place,
            const Workspace& w, float* scratch) {
  const int64_t all = panels(middle(c)), first = panel * kPanel;
  const int64_t depth = (panel + chunk == all ? middle(c) : first + chunk * kPanel) - first;
  const int64_t sums_panel = c.tile_rows * c.tile_columns * kPanel;
  const bool is_last = panel + chunk == all;
  constexpr float inf = __builtin_inff();
  const auto result = [&](const Pointwise& layer, int64_t p, int64_t pixel) {  // of the chain, panel p
    const float* other = place.other ? place.other + pixel * c.outputs + p * kPanel : nullptr;
    return Target{c.output + (place.pixel + pixel) * c.outputs + p * kPanel,
                  c.outputs,
                  c.outputs - p * kPanel,
                  panel_of(layer, p),
                  0,
                  other,
                  layer.low,
                  layer.high};
  };
  if (!c.last.weight) {
    for (int64_t p = 0; p < panels(c.outputs); ++p) {
      float* sums = scratch + w.sums + p * sums_panel + place.sums * kPanel;
      Target to = is_last ? result(c.project, p, 0)
                          : Target{sums, kPanel, c.outputs - p * kPanel, panel_of(c.project, p), 0, nullptr, -inf, inf};
      if (panel > 0) to.begin = sums, to.begin_pixel = kPanel;
      if (!is_last) to.channels = to.channels > kPanel / 2 ? kPanel : kPanel / 2;
      multiply(mid, columns, depth, panel_of(c.project, p) + (1 + first) * kPanel, to);
    }
    return;
  }
  float* hidden = scratch + w.hidden;
  for (int64_t i = 0; i < columns; i += kStrip) {
    const int64_t count = columns - i < kStrip ? columns - i : kStrip;
    const Source from{mid.at + i * mid.pixel, mid.pixel, mid.run, mid.step};
    for (int64_t p = 0; p < panels(c.project.outputs); ++p) {
      const float* weight = panel_of(c.project, p);
      multiply(from, count, depth, weight + kPanel,
               {hidden + p * kStrip * kPanel, kPanel, kPanel, weight, 0, nullptr, c.project.low, c.project.high});
    }
    if (few_outputs(c)) {
      few(c, hidden, count, scratch + w.few, result(c.last, 0, i));
      continue;
    }
    for (int64_t p = 0; p < panels(c.outputs); ++p)
      multiply({hidden, kPanel, kPanel, kStrip * kPanel}, count, c.last.inputs, panel_of(c.last, p) + kPanel,
               result(c.last, p, i));
  }
}

}  // namespace

void convolve(const Chain& c, const Task& task, float* scratch) {
  const Workspace w = workspace_of(c);
  const Depthwise& filters = c.depthwise;
  const int64_t slots = filters.weight ? kKernel : 1, stride = filters.weight ? filters.stride : 1;
  const int64_t seen = source_columns(c, task.columns), slot = source_columns(c, c.tile_columns) * kPanel;
  const int64_t pitch = slots * slot, first_column = task.column * stride - filters.left;
  const int64_t all = panels(middle(c));
  if (few_outputs(c)) lay_out_few(c, scratch + w.few);
  for (int64_t panel = 0; panel < all; panel += c.chunk) {
    const int64_t chunk = all - panel < c.chunk ? all - panel : c.chunk;
    int64_t filled = task.row * stride - filters.top;  // the first row that is not in the ring yet
    for (int64_t y = 0; y < task.rows; ++y) {
      const int64_t row = task.row + y, from = row * stride - filters.top;
      const int64_t pixel = (task.image * c.rows + row) * c.columns + task.column;
      const Place place{pixel, y * task.columns, other_row(c, task, row, pixel, scratch + w.twice)};
      if (!c.expand.weight && !filters.weight) {
        const float* pixels = c.input + pixel * c.inputs + panel * kPanel;
        finish(c, {pixels, c.inputs, c.inputs, c.inputs}, panel, chunk, task.columns, place, w, scratch);
        continue;
      }
      for (; filled < from + slots; ++filled) {
        float* to = scratch + w.ring + (filled + filters.top) % slots * slot;
        fill(c, task.image, filled, first_column, seen, panel, chunk, to, pitch, scratch + w.patch);
      }
      Source mid{scratch + w.ring, kPanel, kPanel, pitch};
      if (filters.weight) {
        for (int64_t p = 0; p < chunk; ++p) {
          const float* rows[kKernel];
          for (int i = 0; i < kKernel; ++i)
            rows[i] = scratch + w.ring + p * pitch + (from + filters.top + i) % slots * slot;
          const float* weight = filters.weight + (panel + p) * (1 + kTaps) * kPanel;
          float* to = scratch + w.mid + p * c.tile_columns * kPanel;
          if (stride == 1) filter<1>(filters, rows, weight, task.columns, to);
          else filter<2>(filters, rows, weight, task.columns, to);
        }
        mid = {scratch + w.mid, kPanel, kPanel, c.tile_columns * kPanel};
      }
      finish(c, mid, panel, chunk, task.columns, place, w, scratch);
    }
  }
}

}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
