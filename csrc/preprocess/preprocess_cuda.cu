#include "../common/cuda.cuh"
#include "preprocess_check.h"

namespace pyrcnn::preprocess {
namespace {

// All three channels of one pixel of the batch.
template <typename S, typename T> struct Pixel {
  Picture picture;
  T* to;
  int64_t step_c, step_y, step_x, width;
  PYRCNN_HD void operator()(int64_t i) const {
    const int64_t y = i / width, x = i - y * width;
    const bool filled = y < picture.new_height && x < picture.new_width;
    const Tap row = filled ? tap(y, picture.height, picture.new_height, picture.legacy) : Tap{};
    const Tap column = filled ? tap(x, picture.width, picture.new_width, picture.legacy) : Tap{};
    for (int c = 0; c < 3; ++c) {
      float value = picture.padding[c];
      if (filled) {
        const S* from = static_cast<const S*>(picture.pixels) + picture.source(c);
        const S *top = from + row.low * picture.step_y, *bottom = from + row.high * picture.step_y;
        const int64_t left = column.low * picture.step_x, right = column.high * picture.step_x;
        value = picture.channels[c](blend(blend(float(top[left]), float(top[right]), column.weight),
                                          blend(float(bottom[left]), float(bottom[right]), column.weight), row.weight));
      }
      to[c * step_c + y * step_y + x * step_x] = T(value);
    }
  }
};

Tensor cuda(const std::vector<Tensor>& images, HeaderOnlyArrayRef<int64_t> heights, HeaderOnlyArrayRef<int64_t> widths,
            int64_t height, int64_t width, HeaderOnlyArrayRef<double> mean, HeaderOnlyArrayRef<double> deviation,
            double shift, double white, bool legacy, bool bgr, bool pad_normalized, ScalarType dtype,
            bool channels_last) {
  const Options o{heights, widths, height, width,          mean,  deviation,    shift,
                  white,   legacy, bgr,    pad_normalized, dtype, channels_last};
  Tensor batch = check_and_allocate(images, o);
  const OnDevice on(batch);
  dispatch_floating(batch, "dtype", [&](auto type) {
    using T = typename decltype(type)::type;
    for (int64_t n = 0; n < int64_t(images.size()); ++n)
      dispatch_picture(images[n], [&](auto picture_type) {
        using S = typename decltype(picture_type)::type;
        each(on, height * width,
             Pixel<S, T>{picture(images[n], n, o), mutable_data<T>(batch) + n * batch.stride(0), batch.stride(1),
                         batch.stride(2), batch.stride(3), width});
      });
  });
  return batch;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("preprocess", TORCH_BOX(&cuda)); }
}  // namespace pyrcnn::preprocess
