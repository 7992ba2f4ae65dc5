#include "common/cuda/cuda.cuh"
#include "decode_anchors_check.h"

namespace pyrcnn::decode_anchors {
namespace {

// One launch serves all levels. i counts an image's boxes level by level and, within a level, in the memory order of
// its deltas, so neighbouring threads read neighbouring deltas.
template <typename T> struct Kernel {
  Level<T> levels[kMaxLevels];
  Rules<compute_t<T>> rules;
  int count;
  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t n = quotient(i, rules.anchors);
    i -= n * rules.anchors;
    int k = 0;
    while (k + 1 < count && i >= levels[k + 1].first) ++k;
    const Level<T>& l = levels[k];
    i -= l.first;
    const bool nhwc = l.channel == 1 && l.column == 4 * l.per_cell;
    const int64_t inner = nhwc ? l.per_cell : l.cells(), outer_at = quotient(i, inner), inner_at = i - outer_at * inner;
    const int64_t cell = nhwc ? outer_at : inner_at, y = quotient(cell, l.width);
    decode_one(l, rules, n, nhwc ? inner_at : outer_at, y, cell - y * l.width);
  }
};

Tensor cuda(Tensors deltas, Tensors cell_anchors, Reals strides, const Tensor& image_sizes, Reals weights, double clip,
            double offset) {
  const Arguments arguments =
      check_and_allocate(deltas, cell_anchors, strides, image_sizes, weights,
                         [](const Tensor& like, const std::vector<int64_t>& sizes, ScalarType type) {
                           return new_result("deltas", like, sizes, type);
                         });
  const OnDevice on(deltas[0]);
  dispatch_floating(deltas[0], "deltas", [&](auto type) {
    using T = typename decltype(type)::type;
    Kernel<T> kernel{{}, rules<compute_t<T>>(arguments, weights, clip, offset), int(arguments.deltas.size())};
    int64_t first = 0;
    for (int l = 0; l < kernel.count; ++l) {
      kernel.levels[l] = level<T>(arguments, size_t(l), first);
      first += kernel.levels[l].anchors();
    }
    each(on, arguments.boxes.size(0) * first, kernel);
  });
  return arguments.boxes;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("decode_anchors", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::decode_anchors
