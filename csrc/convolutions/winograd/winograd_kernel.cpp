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

// A tile's first pixel.
struct Corner {
  int64_t image, y, x;
};
PYRCNN_HD Corner corner_of(const Convolution& conv, int64_t tile) {
  const int64_t row = tile / conv.tiles_x;
  return {row / conv.tiles_y, row % conv.tiles_y * kTile, tile % conv.tiles_x * kTile};
}

// Transforms the patches of `count` tiles to planes [kPlanes][count, inputs]. `zeros` [inputs] stands for the pixels
// outside the image.
PYRCNN_HD void transform_inputs(const Convolution& conv, int64_t first, int64_t count, const float* zeros,
                                float* planes) {
  const int64_t stride = plane_stride(count, conv.inputs);
  for (int64_t t = 0; t < count; ++t) {
    const Corner at = corner_of(conv, first + t);
    const float* pixels[kPlanes];
    for (int i = 0; i < kPatch; ++i) {
      for (int j = 0; j < kPatch; ++j) {
        const int64_t y = at.y + i - 1, x = at.x + j - 1;
        const bool inside = y >= 0 && y < conv.height && x >= 0 && x < conv.width;
        pixels[i * kPatch + j] =
            inside ? conv.input + ((at.image * conv.height + y) * conv.width + x) * conv.inputs : zeros;
      }
    }
    float* to = planes + t * conv.inputs;
    for (int64_t c = 0; c < conv.inputs; c += kLanes) {
      P half[kPatch][kPatch];  // [column][transformed row]
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

// to [Rows, kPanel] = a [Rows, depth] times b [depth, kPanel].
template <int Rows> PYRCNN_HD void multiply_rows(const float* a, int64_t depth, const float* b, float* to) {
  P sum[Rows][kPacks] = {};
  constexpr bool kAhead = true;  // the next plane's weights are not in the inner caches yet
  multiply_add<kPanel, kAhead>(sum, a, depth, depth, b);
  for (int r = 0; r < Rows; ++r)
    for (int p = 0; p < kPacks; ++p) store(to + r * kPanel + p * kLanes, sum[r][p]);
}

// multiply_rows() for a number of rows that is known only now, at most `Rows`.
template <int Rows>
PYRCNN_HD void multiply_up_to(int64_t rows, const float* a, int64_t depth, const float* b, float* to) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return multiply_rows<Rows>(a, depth, b, to);
    multiply_up_to<Rows - 1>(rows, a, depth, b, to);
  }
}

PYRCNN_HD void multiply(const float* a, int64_t rows, int64_t depth, const float* b, float* to) {
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) multiply_rows<kRows>(a + r * depth, depth, b, to + r * kPanel);
  multiply_up_to<kRows - 1>(rows - r, a + r * depth, depth, b, to + r * kPanel);
}

// Transforms products [kPlanes][tiles, kPanel] to results: the panel that begins with channel `first`.
PYRCNN_HD void transform_outputs(const Convolution& conv, const Task& task, const float* products, int64_t first) {
  const int64_t stride = plane_stride(task.tiles, kPanel);
  const P low = conv.low - P{}, high = conv.high - P{};
  for (int64_t t = 0; t < task.tiles; ++t) {
    const Corner at = corner_of(conv, task.first_tile + t);
    const int64_t first_value = ((at.image * conv.height + at.y) * conv.width + at.x) * conv.outputs + first;
    const int rows = int(conv.height - at.y < kTile ? conv.height - at.y : kTile);
    const int columns = int(conv.width - at.x < kTile ? conv.width - at.x : kTile);
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      const float* from = products + t * kPanel + c;
      P half[kPatch][kTile];  // [column][row]
      for (int j = 0; j < kPatch; ++j) {
        P column[kPatch];
        for (int i = 0; i < kPatch; ++i) column[i] = load(from + (i * kPatch + j) * stride);
        transform_output(column, half[j]);
      }
      const P bias = conv.bias ? load(conv.bias + first + c) : P{};
      for (int i = 0; i < rows; ++i) {
        P row[kPatch], y[kTile];
        for (int j = 0; j < kPatch; ++j) row[j] = half[j][i];
        transform_output(row, y);
        for (int j = 0; j < columns; ++j) {
          const int64_t result = first_value + (i * conv.width + j) * conv.outputs + c;
          P value = y[j] + bias;
          if (conv.other) value += load(conv.other + result);
          store(conv.output + result, lower(high, higher(low, value)));  // NaN stays NaN
        }
      }
    }
  }
}

}  // namespace

void convolve(const Convolution& conv, const Task& task, float* scratch) {
  const int64_t plane_in = plane_stride(task.tiles, conv.inputs), plane_out = plane_stride(task.tiles, kPanel);
  float* zeros = scratch;
  float* planes = zeros + conv.inputs;
  float* products = planes + kPlanes * plane_in;
  for (int64_t c = 0; c < conv.inputs; ++c) zeros[c] = 0.0f;
  transform_inputs(conv, task.first_tile, task.tiles, zeros, planes);
  for (int64_t panel = task.first_panel; panel < task.first_panel + task.panels; ++panel) {
    for (int plane = 0; plane < kPlanes; ++plane) {
      const float* weight = conv.weight + (panel * kPlanes + plane) * conv.inputs * kPanel;
      multiply(planes + plane * plane_in, task.tiles, conv.inputs, weight, products + plane * plane_out);
    }
    transform_outputs(conv, task, products, panel * kPanel);
  }
}

}  // namespace pyrcnn::winograd::PYRCNN_ISA
