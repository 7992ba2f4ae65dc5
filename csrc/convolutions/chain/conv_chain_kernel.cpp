#include "finish.h"
#include "rows.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

// A row of `chunk` panels of the depthwise convolution, from row `top` of its ring on, to `mid`.
template <class Unit, typename T = typename Unit::T>
void filter_row(Unit& unit, const Chain<T>& c, int64_t top, int64_t columns, int64_t panel, int64_t chunk,
                const T* ring, int64_t slot, T* mid) {
  const Depthwise<T>& layer = c.depthwise;
  for (int64_t p = 0; p < chunk; ++p, ring += kKernel * slot, mid += whole_groups<T>(c.tile_columns) * kPanel<T>) {
    const T* rows[kKernel];
    for (int i = 0; i < kKernel; ++i) rows[i] = ring + (top + i) % kKernel * slot;
    const T* weight = layer.weight + (panel + p) * (kBiasRows<T> + kTaps) * kPanel<T>;
    if (layer.stride == 1) filter<1>(unit, layer, rows, weight, columns, mid);
    else filter<2>(unit, layer, rows, weight, columns, mid);
  }
}

// The panels from `panel` on of a task.
template <class Unit, typename T = typename Unit::T>
void convolve_chunk(Unit& unit, const Chain<T>& c, const Task& task, int64_t panel, int64_t chunk, const Workspace& w,
                    T* scratch) {
  const Depthwise<T>& filters = c.depthwise;
  const int64_t stride = filters.weight ? filters.stride : 1, first_column = task.column * stride - filters.left;
  const int64_t seen = source_columns(c, task.columns),
                slot = whole_groups<T>(source_columns(c, c.tile_columns)) * kPanel<T>;
  const int64_t pitch = slots(c) * slot;
  T* const ring = scratch + w.ring;
  int64_t filled = task.row * stride - filters.top;  // the first row that is not in the ring yet
  for (int64_t y = 0; y < task.rows; ++y) {
    const int64_t row = task.row + y, from = row * stride - filters.top;
    const int64_t pixel = (task.image * c.rows + row) * c.columns + task.column;
    const Place<T> place{pixel, y * task.columns, other_row(c, task, row, pixel, scratch + w.twice)};
    Source<T> mid{};
    if (has_rows(c)) {
      for (; filled < from + slots(c); ++filled)
        fill(unit, c, task.image, filled, first_column, seen, panel, chunk,
             ring + (filled + filters.top) % slots(c) * slot, pitch, scratch + w.patch, scratch + w.copy);
      mid = {ring, kPanel<T>, kPanel<T>, pitch};
    } else {
      mid = pixels_of(c, c.input + pixel * c.inputs + panel * kPanel<T>, task.columns, scratch + w.copy);
    }
    if (filters.weight) {
      filter_row(unit, c, from + filters.top, task.columns, panel, chunk, ring, slot, scratch + w.mid);
      mid = {scratch + w.mid, kPanel<T>, kPanel<T>, whole_groups<T>(c.tile_columns) * kPanel<T>};
    }
    if (c.last.weight) finish_last(unit, c, mid, task.columns, place, scratch + w.hidden, scratch + w.few);
    else finish_project(unit, c, mid, panel, chunk, task.columns, place, scratch + w.sums);
  }
}

template <class Unit, typename T = typename Unit::T>
void convolve_with(Unit& unit, const Chain<T>& c, const Task& task, T* scratch) {
  const Workspace w = workspace_of(c);
  const int64_t all = panels<T>(middle(c));
  if constexpr (!kInTiles<T>) {
    if (few_outputs(c)) lay_out_few(c, scratch + w.few);
  }
  for (int64_t panel = 0; panel < all; panel += c.chunk)
    convolve_chunk(unit, c, task, panel, all - panel < c.chunk ? all - panel : c.chunk, w, scratch);
}

}  // namespace

template <typename T> void convolve(const Chain<T>& chain, const Task& task, T* scratch) {
  if constexpr (!kInTiles<T>) {
    Registers unit;
    convolve_with(unit, chain, task, scratch);
  } else {
    pyrcnn::PYRCNN_ISA::with_tiles(chain.tiles, [&]<class Tiles>(Tiles& tiles) {
      InTiles<Tiles> unit{tiles, {}};
      convolve_with(unit, chain, task, scratch);
    });
  }
}

template void convolve(const Chain<float>&, const Task&, float*);
template void convolve(const Chain<BFloat16>&, const Task&, BFloat16*);

}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
