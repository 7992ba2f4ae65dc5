#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "decode_anchors_check.h"
#include "decode_anchors_kernel.h"

namespace pyrcnn::decode_anchors {
namespace {

constexpr double kNanosecondsPerBox = 4;

template <typename T, typename C = compute_t<T>> Anchors<C> anchors_of(const Level<T>& level, std::vector<C>& storage) {
  const int64_t count = 4 * (level.per_cell + Anchors<C>::kMore);
  storage.assign(2 * count, C(0));
  for (int64_t i = 0; i < count && level.per_cell > 0; ++i) {
    storage[i] = level.cell_anchors.template at<C>(i % (4 * level.per_cell));
    if (i % 2 == 0) storage[count + i] = C(i / (4 * level.per_cell));
  }
  return {storage.data(), storage.data() + count};
}

Tensor cpu(Tensors deltas, Tensors cell_anchors, Reals strides, const Tensor& image_sizes, Reals weights, double clip,
           double offset) {
  const Arguments arguments =
      check_and_allocate(deltas, cell_anchors, strides, image_sizes, weights,
                         [](const Tensor& like, const std::vector<int64_t>& sizes, ScalarType type) {
                           return empty_result("deltas", like, sizes, type);
                         });
  dispatch_floating(deltas[0], "deltas", [&](auto type) {
    using T = typename decltype(type)::type;
    const auto shared = rules<compute_t<T>>(arguments, weights, clip, offset);
    const auto loop = PYRCNN_KERNEL(rows<T>);
    std::vector<compute_t<T>> storage;
    int64_t first = 0;
    for (size_t l = 0; l < arguments.deltas.size(); ++l) {
      const Level<T> lvl = level<T>(arguments, l, first);
      if (lvl.anchors() == 0) continue;
      const auto table = anchors_of(lvl, storage);
      const double cost = kNanosecondsPerBox * double(lvl.width * lvl.per_cell + 1);
      parallel(arguments.boxes.size(0) * lvl.height, cost,
               [&](int64_t begin, int64_t end) { loop(lvl, shared, table, begin, end); });
      first += lvl.anchors();
    }
  });
  return arguments.boxes;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("decode_anchors", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::decode_anchors
