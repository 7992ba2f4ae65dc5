#include "finish.h"
#include "rows.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

// Panels [panel, panel + chunk) of the expanded channels of a task.
void convolve_chunk(const Chain& c, const Task& task, int64_t panel, int64_t chunk, const Workspace& w,
                    float* scratch) {
  const Depthwise& filters = c.depthwise;
  const int64_t stride = filters.weight ? filters.stride : 1, first_column = task.column * stride - filters.left;
  const int64_t seen = source_columns(c, task.columns);
  const int64_t ring_row = source_columns(c, c.task_columns) * kPanel, pitch = ring_rows(c) * ring_row;
  float* const ring = scratch + w.ring;
  int64_t filled = task.row * stride - filters.top;  // the first row that is not in the ring yet
  for (int64_t y = 0; y < task.rows; ++y) {
    const int64_t row = task.row + y, from = row * stride - filters.top;
    const int64_t pixel = (task.image * c.rows + row) * c.columns + task.column;
    const ResultRow to{pixel, y * task.columns, other_row(c, task, row, pixel, scratch + w.upsampled)};
    Source source;
    if (uses_ring(c)) {
      for (; filled < from + ring_rows(c); ++filled)
        fill_row(c, task.image, filled, first_column, seen, panel, chunk,
                 ring + (filled + filters.top) % ring_rows(c) * ring_row, pitch, scratch + w.patch);
      source = {ring, kPanel, kPanel, pitch};
    } else {
      source = pixels_of(c, c.input + pixel * c.inputs + panel * kPanel);
    }
    if (filters.weight) {
      filter_row(c, from + filters.top, task.columns, panel, chunk, ring, ring_row, scratch + w.filtered);
      source = {scratch + w.filtered, kPanel, kPanel, c.task_columns * kPanel};
    }
    if (c.last.weight) finish_last(c, source, task.columns, to, scratch + w.hidden, scratch + w.narrow);
    else finish_project(c, source, panel, chunk, task.columns, to, scratch + w.sums);
  }
}

}  // namespace

void convolve(const Chain& c, const Task& task, float* scratch) {
  const Workspace w = workspace_of(c);
  const int64_t all = panels(expanded_channels(c));
  if (is_narrow(c)) transpose_narrow_weight(c, scratch + w.narrow);
  for (int64_t panel = 0; panel < all; panel += c.chunk)
    convolve_chunk(c, task, panel, lower(c.chunk, all - panel), w, scratch);
}

}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
