// From what lies between expand and project to the result. Included by conv_chain_kernel.cpp only.
#pragma once
#include "few.h"

namespace pyrcnn::conv_chain::PYRCNN_ISA {
namespace {

template <typename T> struct Place {
  int64_t pixel;   // of the result, counted over all images
  int64_t sums;    // in the workspace's sums
  const T* other;  // what is added to that pixel, or null
};

// What is added to a row of the result, from its pixel on.
template <typename T> const T* other_row(const Chain<T>& c, const Task& task, int64_t row, int64_t pixel, T* twice) {
  if (!c.other) return nullptr;
  if (c.up == 1) return c.other + pixel * c.outputs;
  const int64_t columns = c.columns / c.up;
  const T* from = c.other + (task.image * (c.rows / c.up) + row / c.up) * columns * c.outputs;
  for (int64_t x = 0; x < task.columns; ++x)
    memcpy(twice + x * c.outputs, from + (task.column + x) / c.up * c.outputs, sizeof(T) * size_t(c.outputs));
  return twice;
}

// The result's panel p from `place` + `pixel` on, which `layer` makes.
template <typename T>
PYRCNN_HD Target<T> result(const Chain<T>& c, const Pointwise<T>& layer, int64_t p, const Place<T>& place,
                           int64_t pixel) {
  const int64_t channel = p * kPanel<T>;
  return {c.output + (place.pixel + pixel) * c.outputs + channel,
          c.outputs,
          c.outputs - channel,
          0,
          bias_of(layer, p),
          0,
          place.other ? place.other + pixel * c.outputs + channel : nullptr,
          layer.low,
          layer.high};
}

// Without `last`: the panels from `panel` on of a row between expand and project -> the result, or sums for the next
// chunk.
template <class Unit, typename T = typename Unit::T>
void finish_project(Unit& unit, const Chain<T>& c, const Source<T>& mid, int64_t panel, int64_t chunk, int64_t columns,
                    const Place<T>& place, T* all_sums) {
  const int64_t first = panel * kPanel<T>, sums_panel = c.tile_rows * c.tile_columns * kPanel<T>;
  const bool is_last = panel + chunk == panels<T>(middle(c));
  const int64_t depth = is_last ? middle(c) - first : chunk * kPanel<T>;
  constexpr float inf = __builtin_inff();
  for (int64_t p = 0; p < panels<T>(c.outputs); ++p) {
    T* sums = all_sums + p * sums_panel + place.sums * kPanel<T>;
    Target<T> to = result(c, c.project, p, place, 0);
    if (!is_last) {
      const int64_t channels = to.channels > kPanel<T> / 2 ? kPanel<T> : kPanel<T> / 2;
      to = {sums, kPanel<T>, channels, 0, to.begin, 0, nullptr, -inf, inf};
    }
    if (panel > 0) to.begin = sums, to.begin_pixel = kPanel<T>;
    multiply(unit, mid, columns, depth, weight_of(c.project, p) + first * kPanel<T>, to);
  }
}

// A row between expand and project -> the result, strip by strip.
template <class Unit, typename T = typename Unit::T>
void finish_last(Unit& unit, const Chain<T>& c, const Source<T>& mid, int64_t columns, const Place<T>& place, T* hidden,
                 const T* few_weights) {
  for (int64_t i = 0; i < columns; i += kStrip<T>) {
    const int64_t count = columns - i < kStrip<T> ? columns - i : kStrip<T>;
    const Source<T> from{mid.at + i * mid.pixel, mid.pixel, mid.run, mid.step};
    for (int64_t p = 0; p < panels<T>(c.project.outputs); ++p)
      multiply(unit, from, count, middle(c), weight_of(c.project, p),
               between(c.project, p, hidden + p * kStrip<T> * kPanel<T>));
    if constexpr (!kInTiles<T>) {
      if (few_outputs(c)) {
        few(c, hidden, count, few_weights, result(c, c.last, 0, place, i));
        continue;
      }
    }
    for (int64_t p = 0; p < panels<T>(c.outputs); ++p)
      multiply(unit, {hidden, kPanel<T>, kPanel<T>, kStrip<T> * kPanel<T>}, count, c.last.inputs, weight_of(c.last, p),
               result(c, c.last, p, place, i));
  }
}

}  // namespace
}  // namespace pyrcnn::conv_chain::PYRCNN_ISA
