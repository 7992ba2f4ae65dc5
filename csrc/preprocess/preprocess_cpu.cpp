#include <algorithm>
#include <limits>

#include "common/cpu/parallel.h"
#include "preprocess_check.h"
#include "preprocess_kernel.h"

namespace pyrcnn::preprocess {
namespace {

constexpr double kNanosecondsPerPixel = 5;

// The taps of an image's columns, which all its rows share.
struct ColumnTable {
  std::vector<Tap> taps;
  std::vector<int32_t> low;
  std::vector<float> weights;

  explicit ColumnTable(const Image& p) : taps(p.new_width) {
    for (int64_t x = 0; x < p.new_width; ++x) taps[x] = tap(x, p.width, p.new_width, p.legacy);
    if (p.width > std::numeric_limits<int32_t>::max()) return;
    for (const Tap& t : taps) {
      if (t.low + 4 > p.width) break;
      low.push_back(int32_t(t.low)), weights.push_back(t.weight);
    }
  }
  Columns columns() const {
    return {taps.data(), int64_t(taps.size()), int64_t(low.size()), low.data(), weights.data()};
  }
};

// Writes rows [begin, end) of one image in the batch. An output row needs two neighbouring source rows, one even and
// one odd. Each is resized along x once and kept until another row of its parity is needed.
template <typename S, typename T>
void rows(const Image& p, T* to, int64_t step_c, int64_t step_y, int64_t step_x, int64_t width, int64_t begin,
          int64_t end) {
  const auto stretch = PYRCNN_KERNEL(stretch<S>);
  const auto finish = PYRCNN_KERNEL(finish<T>);
  const ColumnTable table(p);
  const Columns columns = table.columns();
  std::vector<float> kept(2 * 3 * p.new_width);
  int64_t held[2] = {-1, -1};
  const auto row = [&](int64_t y) {
    float* line = kept.data() + (y % 2) * 3 * p.new_width;
    if (held[y % 2] != y)
      for (int c = 0; c < 3; ++c)
        stretch(static_cast<const S*>(p.pixels) + p.source(c) + y * p.step_y, p.step_x, columns,
                line + c * p.new_width);
    held[y % 2] = y;
    return line;
  };
  for (int64_t y = begin; y < end; ++y) {
    const int64_t filled = y < p.new_height ? p.new_width : 0;
    const Tap t = filled ? tap(y, p.height, p.new_height, p.legacy) : Tap{};
    const float *top = filled ? row(t.low) : nullptr, *bottom = filled ? row(t.high) : nullptr;
    for (int c = 0; c < 3; ++c) {
      T* line = to + c * step_c + y * step_y;
      if (filled) finish(top + c * filled, bottom + c * filled, t.weight, p.channels[c], line, step_x, filled);
      const T padding = T(p.padding[c]);
      for (int64_t x = filled; x < width; ++x) line[x * step_x] = padding;
    }
  }
}

Tensor cpu(const std::vector<Tensor>& images, HeaderOnlyArrayRef<int64_t> heights, HeaderOnlyArrayRef<int64_t> widths,
           int64_t height, int64_t width, HeaderOnlyArrayRef<double> mean, HeaderOnlyArrayRef<double> deviation,
           double shift, double white, bool legacy, bool bgr, bool pad_normalized, ScalarType dtype,
           bool channels_last) {
  const Options o{heights, widths, height, width,          mean,  deviation,    shift,
                  white,   legacy, bgr,    pad_normalized, dtype, channels_last};
  return on_cpu(images, o);
}

}  // namespace

Tensor on_cpu(const std::vector<Tensor>& images, const Options& o) {
  const int64_t height = o.height, width = o.width;
  Tensor batch = check_and_allocate(images, o);
  for (const Tensor& image : images) dispatch_image(image, [](auto) {});  // reports wrong types before threads start
  dispatch_floating(batch, "dtype", [&](auto type) {
    using T = typename decltype(type)::type;
    T* to = mutable_data<T>(batch);
    parallel(
        int64_t(images.size()) * height, double(3 * width) * kNanosecondsPerPixel, [&](int64_t begin, int64_t end) {
          for (int64_t n = begin / height; n * height < end; ++n)
            dispatch_image(images[n], [&](auto image_type) {
              rows<typename decltype(image_type)::type>(
                  describe_image(images[n], n, o), to + n * batch.stride(0), batch.stride(1), batch.stride(2),
                  batch.stride(3), width, std::max<int64_t>(begin - n * height, 0), std::min(end - n * height, height));
            });
        });
  });
  return batch;
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("preprocess", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::preprocess
