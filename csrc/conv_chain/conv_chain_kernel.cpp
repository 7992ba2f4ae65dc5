#include "../common/pack.h"
#include "conv_chain.h"

// Sums that are to stay in registers need loops that are unrolled whatever they hold.
#define UNROLLED _Pragma("GCC unroll 16")

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

using P = pyrcnn::PYRCNN_ISA::Pack<float>;
using pyrcnn::PYRCNN_ISA::fma;
using pyrcnn::PYRCNN_ISA::kLanes;
using pyrcnn::PYRCNN_ISA::load;
using pyrcnn::PYRCNN_ISA::store;

constexpr int kPacks = kPanel / kLanes;  // per panel
constexpr int kSums = 12;                // packs of sums in registers: enough to hide the latency of an fma
constexpr int kTaps = kKernel * kKernel;

PYRCNN_HD P clamped(P value, P low, P high) {  // so that NaN stays
  value = low > value ? low : value;
  return high < value ? high : value;
}

// What a 1x1 convolution reads: channel c of pixel i is at[c / kPanel * panel + i * pixel + c % kPanel].
struct Source {
  const float* at;
  int64_t pixel, panel;
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
// Pixel: the distance of the pixels where it is known, else 0.
template <int Rows, int Packs, int Pixel>
PYRCNN_HD void multiply_rows(const Source& from, int64_t row, int64_t depth, const float* weight, const Target& to) {
  const int64_t pixel = Pixel ? Pixel : from.pixel;
  P sum[Rows][Packs];
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] =
      load(to.begin + (row + r) * to.begin_pixel + p * kLanes);
  const float* left = from.at + row * pixel;
  for (int64_t c = 0; c < depth; c += kPanel, left += from.panel) {
    const int64_t count = depth - c < kPanel ? depth - c : kPanel;
    for (int64_t k = 0; k < count; ++k, weight += kPanel) {
      P right[Packs];
      for (int p = 0; p < Packs; ++p) right[p] = load(weight + p * kLanes);
      for (int r = 0; r < Rows; ++r) {
        const P value = left[r * pixel + k] - P{};
        for (int p = 0; p < Packs; ++p) sum[r][p] = fma(value, right[p], sum[r][p]);
      }
    }
  }
  float* at = to.at + row * to.pixel;
  if (to.other) {
    const float* other = to.other + row * to.pixel;
    UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] +=
        take(other + r * to.pixel + p * kLanes, to.channels - p * kLanes);
  }
  const P low = to.low - P{}, high = to.high - P{};
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p) sum[r][p] =
      clamped(sum[r][p], low, high);
  if (to.channels >= Packs * kLanes) {
    UNROLLED for (int r = 0; r < Rows; ++r, at += to.pixel) UNROLLED for (int p = 0; p < Packs; ++p)
        store(at + p * kLanes, sum[r][p]);
    return;
  }
  float all[Rows][Packs * kLanes];
  UNROLLED for (int r = 0; r < Rows; ++r) UNROLLED for (int p = 0; p < Packs; ++p)
      store(all[r] + p * kLanes, sum[r][p]);
  for (int r = 0; r < Rows; ++r, at += to.pixel)
    for (int64_t i = 0; i < to.channels; ++i) at[i] = all[r][i];
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
  if constexpr (kPacks > 1) {
    if (to.channels <= kPanel / 2) return multiply_all<kPacks / 2, Pixel>(from, pixels, depth, weight, to);
  }
  multiply_all<kPacks, Pixel>(from, pixels, depth, weight, to);
}
void multiply(const Source& from, int64_t pixels, int64_t depth, const float* weight, const Target& to) {
  if (from.pixel == kPanel) return multiply<kPanel>(from, pixels, depth, weight, to);
  multiply<0>(from, pixels, depth, weight, to);
}

// The weights of a 1x1 convolution's panel: the bias first.
PYRCNN_HD const float* panel_of(const Pointwise& layer, int64_t panel) {
  return layer.weight + panel * (1 + layer.inputs) * kPanel;
}

void zero(float* at, int64_t floats) { memset(at, 0, sizeof(float) * size_t(floats)); }

// A row of the input, expanded, into a slot of the ring: columns from `first` on, `count` of them, panels of the chunk.
void fill(const Chain& c, int64_t image, int64_t row, int64_t first, int64_t count, int64_t panel, int64_t chunk,
          float* slot, int64_t pitch) {
  if (row < 0 || row >= c.height) {
    for (int64_t p = 0; p < chunk; ++p) zero(slot + p * pitch, count * kPanel);
    return;
  }
  const int64_t before = first < 0 ? -first : 0, end = first + count;
  const int64_t after = end > c.width ? end - c.width : 0, inside = count - before - after;
  const float* pixels = c.input + ((image * c.height + row) * c.width + first + before) * c.inputs;
  for (int64_t p = 0; p < chunk; ++p, slot += pitch) {
    float* to = slot + before * kPanel;
    zero(slot, before * kPanel);
    zero(to + inside * kPanel, after * kPanel);
    if (inside <= 0) continue;
    if (c.expand.weight) {
      const float* weight = panel_of(c.expand, panel + p);
      multiply({pixels, c.inputs, kPanel}, inside, c.inputs, weight + kPanel,
               {to, kPanel, kPanel, weight, 0, nullptr, c.expand.low, c.expand.high});
      continue;
    }
    const float* from = pixels + (panel + p) * kPanel;
    const int64_t channels = c.inputs - (panel + p) * kPanel;
    if (channels < kPanel) zero(to, inside * kPanel);
    for (int64_t i = 0; i < inside; ++i)
      for (int k = 0; k < kPanel; k += kLanes)
        if (channels > k) put(to + i * kPanel + k, take(from + i * c.inputs + k, channels - k), channels - k);
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

struct Place {
  int64_t pixel;  // of the result, counted over all images
  int64_t sums;   // in the workspace's sums
};

// The panels from `panel` on of a row between expand and project -> the result, or sums for the next chunk.
void finish(const Chain& c, const Source& mid, int64_t panel, int64_t chunk, int64_t columns, Place place,
            const Workspace& w, float* scratch) {
  const int64_t all = panels(middle(c)), first = panel * kPanel;
  const int64_t depth = (panel + chunk == all ? middle(c) : first + chunk * kPanel) - first;
  const int64_t sums_panel = c.tile_rows * c.tile_columns * kPanel;
  const bool is_last = panel + chunk == all;
  constexpr float inf = __builtin_inff();
  const auto result = [&](const Pointwise& layer, int64_t p, int64_t pixel) {  // of the chain, panel p
    const int64_t at = (place.pixel + pixel) * c.outputs + p * kPanel;
    const float* weight = panel_of(layer, p);
    return Target{c.output + at, c.outputs, c.outputs - p * kPanel, weight, 0, c.other ? c.other + at : nullptr,
                  layer.low,     layer.high};
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
    const Source from{mid.at + i * mid.pixel, mid.pixel, mid.panel};
    for (int64_t p = 0; p < panels(c.project.outputs); ++p) {
      const float* weight = panel_of(c.project, p);
      multiply(from, count, depth, weight + kPanel,
               {hidden + p * kStrip * kPanel, kPanel, kPanel, weight, 0, nullptr, c.project.low, c.project.high});
    }
    for (int64_t p = 0; p < panels(c.outputs); ++p)
      multiply({hidden, kPanel, kStrip * kPanel}, count, c.last.inputs, panel_of(c.last, p) + kPanel,
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
  for (int64_t panel = 0; panel < all; panel += c.chunk) {
    const int64_t chunk = all - panel < c.chunk ? all - panel : c.chunk;
    int64_t filled = task.row * stride - filters.top;  // the first row that is not in the ring yet
    for (int64_t y = 0; y < task.rows; ++y) {
      const int64_t row = task.row + y, from = row * stride - filters.top;
      const Place place{(task.image * c.rows + row) * c.columns + task.column, y * task.columns};
      if (!c.expand.weight && !filters.weight) {
        const float* pixels = c.input + place.pixel * c.inputs + panel * kPanel;
        finish(c, {pixels, c.inputs, kPanel}, panel, chunk, task.columns, place, w, scratch);
        continue;
      }
      for (; filled < from + slots; ++filled) {
        float* to = scratch + w.ring + (filled + filters.top) % slots * slot;
        fill(c, task.image, filled, first_column, seen, panel, chunk, to, pitch);
      }
      Source mid{scratch + w.ring, kPanel, pitch};
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
        mid = {scratch + w.mid, kPanel, c.tile_columns * kPanel};
      }
      finish(c, mid, panel, chunk, task.columns, place, w, scratch);
    }
  }
}

}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
