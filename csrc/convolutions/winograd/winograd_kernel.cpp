#include "common/simd/product.h"
#include "winograd.h"

namespace pyrcnn::winograd::PYRCNN_ISA {
namespace {

using P = pyrcnn::PYRCNN_ISA::Pack<float>;
using pyrcnn::PYRCNN_ISA::fma;
using pyrcnn::PYRCNN_ISA::kLanes;
using pyrcnn::PYRCNN_ISA::kSums;
using pyrcnn::PYRCNN_ISA::load;
using pyrcnn::PYRCNN_ISA::multiply_add;
using pyrcnn::PYRCNN_ISA::store;

constexpr int kPacks = kPanel / kLanes;  // per panel
constexpr int kRows = kSums / kPacks;    // rows of a product in registers

struct Place {
  int64_t image, y, x;  // of a tile's first pixel
};
PYRCNN_HD Place place(const Layer& l, int64_t tile) {
  const int64_t row = tile / l.tiles_x;
  return {row / l.tiles_y, row % l.tiles_y * kTile, tile % l.tiles_x * kTile};
}

// The patches of `count` tiles -> planes [kPlanes][count, inputs].
PYRCNN_HD void to_frequencies(const Layer& l, int64_t first, int64_t count, const float* zeros, float* planes) {
  const int64_t stride = plane_stride(count, l.inputs);
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place(l, first + t);
    const float* pixels[kPlanes];
    for (int i = 0; i < kPatch; ++i) {
      for (int j = 0; j < kPatch; ++j) {
        const int64_t y = at.y + i - 1, x = at.x + j - 1;
        const bool inside = y >= 0 && y < l.height && x >= 0 && x < l.width;
        pixels[i * kPatch + j] = inside ? l.input + ((at.image * l.height + y) * l.width + x) * l.inputs : zeros;
      }
    }
    float* to = planes + t * l.inputs;
    for (int64_t c = 0; c < l.inputs; c += kLanes) {
      P half[kPatch][kPatch];  // [column][frequency]
      for (int j = 0; j < kPatch; ++j) {
        P column[kPatch];
        for (int i = 0; i < kPatch; ++i) column[i] = load(pixels[i * kPatch + j] + c);
        transform_input(column, half[j]);
      }
      for (int i = 0; i < kPatch; ++i) {
        P row[kPatch], v[kPatch];
        for (int j = 0; j < kPatch; ++j) row[j] = half[j][i];
        transform_input(row, v);
        for (int j = 0; j < kPatch; ++j) store(to + (i * kPatch + j) * stride + c, v[j]);
      }
    }
  }
}

// a [Rows, depth] times b [depth, kPanel] -> to [Rows, kPanel].
template <int Rows> PYRCNN_HD void multiply_rows(const float* a, int64_t depth, const float* b, float* to) {
  P sum[Rows][kPacks] = {};
  multiply_add<kPanel, true>(sum, a, depth, depth, b);  // the next plane's weights come from the outer caches
  for (int r = 0; r < Rows; ++r)
    for (int p = 0; p < kPacks; ++p) store(to + r * kPanel + p * kLanes, sum[r][p]);
}

template <int Rows>
PYRCNN_HD void multiply_last(int64_t rows, const float* a, int64_t depth, const float* b, float* to) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return multiply_rows<Rows>(a, depth, b, to);
    multiply_last<Rows - 1>(rows, a, depth, b, to);
  }
}

PYRCNN_HD void multiply(const float* a, int64_t rows, int64_t depth, const float* b, float* to) {
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) multiply_rows<kRows>(a + r * depth, depth, b, to + r * kPanel);
  multiply_last<kRows - 1>(rows - r, a + r * depth, depth, b, to + r * kPanel);
}

// products [kPlanes][tiles, kPanel] -> the panel of outputs that begins with channel `first`.
PYRCNN_HD void from_frequencies(const Layer& l, const Task& task, const float* products, int64_t first) {
  const int64_t stride = plane_stride(task.tiles, kPanel);
  for (int64_t t = 0; t < task.tiles; ++t) {
    const Place at = place(l, task.first_tile + t);
    const int64_t corner = ((at.image * l.height + at.y) * l.width + at.x) * l.outputs + first;
    const int rows = int(l.height - at.y < kTile ? l.height - at.y : kTile);
    const int columns = int(l.width - at.x < kTile ? l.width - at.x : kTile);
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      const float* from = products + t * kPanel + c;
      P half[kPatch][kTile];  // [column][pixel]
      for (int j = 0; j < kPatch; ++j) {
        P column[kPatch];
        for (int i = 0; i < kPatch; ++i) column[i] = load(from + (i * kPatch + j) * stride);
        transform_output(column, half[j]);
      }
      const P bias = l.bias ? load(l.bias + first + c) : P{};
      for (int i = 0; i < rows; ++i) {
        P row[kPatch], y[kTile];
        for (int j = 0; j < kPatch; ++j) row[j] = half[j][i];
        transform_output(row, y);
        for (int j = 0; j < columns; ++j) {
          const int64_t pixel = corner + (i * l.width + j) * l.outputs + c;
          P value = y[j] + bias;
          if (l.other) value += load(l.other + pixel);
          value = value < l.low ? l.low - P{} : value;  // so that NaN stays
          store(l.output + pixel, value > l.high ? l.high - P{} : value);
        }
      }
    }
  }
}

}  // namespace

void convolve(const Layer& l, const Task& task, float* scratch) {
  const int64_t plane_in = plane_stride(task.tiles, l.inputs), plane_out = plane_stride(task.tiles, kPanel);
  float* zeros = scratch;
  float* planes = zeros + l.inputs;
  float* products = planes + kPlanes * plane_in;
  for (int64_t c = 0; c < l.inputs; ++c) zeros[c] = 0.0f;
  to_frequencies(l, task.first_tile, task.tiles, zeros, planes);
  for (int64_t panel = task.first_panel; panel < task.first_panel + task.panels; ++panel) {
    for (int plane = 0; plane < kPlanes; ++plane) {
      const float* weight = l.weight + (panel * kPlanes + plane) * l.inputs * kPanel;
      multiply(planes + plane * plane_in, task.tiles, l.inputs, weight, products + plane * plane_out);
    }
    from_frequencies(l, task, products, panel * kPanel);
  }
}

}  // namespace pyrcnn::winograd::PYRCNN_ISA
