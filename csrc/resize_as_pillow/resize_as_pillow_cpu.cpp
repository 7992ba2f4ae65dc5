#include "common/cpu/parallel.h"
#include "resize_as_pillow_check.h"
#include "resize_as_pillow_kernel.h"

namespace pyrcnn::resize_as_pillow {
namespace {

constexpr double kNanosecondsPerTap = 0.5;

// The filters of a side, which all its lines share.
struct FilterTable {
  std::vector<int64_t> first;
  std::vector<int32_t> weights;
  int64_t taps = 0;

  FilterTable(int64_t size, int64_t new_size) : first(new_size) {
    for (int64_t i = 0; i < new_size; ++i) taps = std::max(taps, Filter(i, size, new_size).count);
    weights.resize(new_size * taps);
    for (int64_t i = 0; i < new_size; ++i) {
      const Filter filter(i, size, new_size);
      first[i] = filter.first;
      for (int64_t k = 0; k < filter.count; ++k) weights[i * taps + k] = filter.weight(k);
    }
  }
  Filters filters() const { return {first.data(), weights.data(), int64_t(first.size()), taps}; }
};

template <typename S> void run(const Pass<S>& p) {
  const FilterTable table(p.size, p.along_y ? p.height : p.width);
  const Filters filters = table.filters();
  const auto stretch = PYRCNN_KERNEL(stretch);
  const auto blend = PYRCNN_KERNEL(blend);
  parallel(3 * p.height, kNanosecondsPerTap * double(table.taps) * double(p.width), [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> line(p.along_y ? 0 : p.size + table.taps);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t c = i / p.height, y = i - c * p.height;
      if constexpr (sizeof(S) == 1) {
        if (p.along_y) {
          blend(p.from + c * p.step_c, p.width, filters, p.size, y, p.to + i * p.width);
          continue;
        }
      }
      const S* row = p.from + c * p.step_c + y * p.step_y;
      for (int64_t x = 0; x < p.size; ++x) line[x] = uint8_t(to_byte(row[x * p.step_x]));
      stretch(line.data(), filters, p.to + i * p.width);
    }
  });
}

Tensor cpu(const Tensor& image, int64_t height, int64_t width) { return on_cpu(image, height, width); }

}  // namespace

Tensor on_cpu(const Tensor& image, int64_t height, int64_t width) {
  return forward(image, height, width, [](const auto& pass) { run(pass); });
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_resize_as_pillow", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::resize_as_pillow
