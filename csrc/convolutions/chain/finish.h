// From the expanded channels to the result: project and last. Included by conv_chain_kernel.cpp only.
#pragma once
#include "narrow.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

// A row of a task's rectangle.
struct ResultRow {
  int64_t pixel;       // its first pixel, counted over all images
  int64_t sums;        // the same pixel in the workspace's sums
  const float* other;  // what is added, from that pixel on, or null
};

// What is added to a task's row of the result whose first pixel is `pixel`; null if nothing is added.
const float* other_row(const Chain& c, const Task& task, int64_t row, int64_t pixel, float* upsampled) {
  if (!c.other) return nullptr;
  if (c.up == 1) return c.other + pixel * c.outputs;
  const int64_t columns = c.columns / c.up;
  const float* from = c.other + (task.image * (c.rows / c.up) + row / c.up) * columns * c.outputs;
  for (int64_t x = 0; x < task.columns; ++x)
    memcpy(upsampled + x * c.outputs, from + (task.column + x) / c.up * c.outputs, sizeof(float) * size_t(c.outputs));
  return upsampled;
}

// Panel `panel` of the result, from pixel `pixel` of `row` on, which `layer` makes.
PYRCNN_HD Target result_panel(const Chain& c, const Pointwise& layer, int64_t panel, const ResultRow& row,
                              int64_t pixel) {
  const int64_t channel = panel * kPanel;
  return {.at = c.output + (row.pixel + pixel) * c.outputs + channel,
          .pixel = c.outputs,
          .channels = c.outputs - channel,
          .begin = bias_of(layer, panel),
          .begin_pixel = 0,
          .other = row.other ? row.other + pixel * c.outputs + channel : nullptr,
          .low = layer.low,
          .high = layer.high};
}

// Without `last`: multiplies a row of expanded channels, panels [panel, panel + chunk), by project. The last chunk
// gives the result; the others add to the sums.
void finish_project(const Chain& c, const Source& from, int64_t panel, int64_t chunk, int64_t columns,
                    const ResultRow& row, float* all_sums) {
  const int64_t first = panel * kPanel, sums_panel = c.task_rows * c.task_columns * kPanel;
  const bool is_last = panel + chunk == panels(expanded_channels(c));
  const int64_t depth = is_last ? expanded_channels(c) - first : chunk * kPanel;
  constexpr float inf = __builtin_inff();
  for (int64_t p = 0; p < panels(c.outputs); ++p) {
    float* sums = all_sums + p * sums_panel + row.sums * kPanel;
    Target to = result_panel(c, c.project, p, row, 0);
    if (!is_last) {
      const int64_t channels = to.channels > kPanel / 2 ? kPanel : kPanel / 2;
      to = {sums, kPanel, channels, to.begin, 0, nullptr, -inf, inf};
    }
    if (panel > 0) to.begin = sums, to.begin_pixel = kPanel;
    multiply(from, columns, depth, weight_of(c.project, p) + first * kPanel, to);
  }
}

// With `last`: multiplies a row of expanded channels by project and by last, kHiddenPixels at a time.
void finish_last(const Chain& c, const Source& from, int64_t columns, const ResultRow& row, float* hidden,
                 const float* narrow_weight) {
  for (int64_t i = 0; i < columns; i += kHiddenPixels) {
    const int64_t count = columns - i < kHiddenPixels ? columns - i : kHiddenPixels;
    const Source part{from.at + i * from.pixel, from.pixel, from.run, from.step};
    for (int64_t p = 0; p < panels(c.project.outputs); ++p)
      multiply(part, count, expanded_channels(c), weight_of(c.project, p),
               workspace_panel(c.project, p, hidden + p * kHiddenPixels * kPanel));
    if (is_narrow(c)) {
      multiply_narrow(c, hidden, count, narrow_weight, result_panel(c, c.last, 0, row, i));
      continue;
    }
    for (int64_t p = 0; p < panels(c.outputs); ++p)
      multiply({hidden, kPanel, kPanel, kHiddenPixels * kPanel}, count, c.last.inputs, weight_of(c.last, p),
               result_panel(c, c.last, p, row, i));
  }
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
