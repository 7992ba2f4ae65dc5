#include "common/cuda/cuda.cuh"
#include "preprocess_check.h"

namespace pyrcnn::preprocess {
namespace {

constexpr int kImages = 16;  // of one launch: a kernel's arguments have at most 4096 bytes

template <typename T> struct Batch {
  Image images[kImages];
  T* to;  // of the first image
  int64_t step_n, step_c, step_y, step_x, height, width;
};

// A thread computes all three channels of one pixel. The grid is (pixels, images).
template <typename S, typename T>
__global__ void __launch_bounds__(kThreads) preprocess(const __grid_constant__ Batch<T> b) {
  const Image& p = b.images[blockIdx.y];
  T* to = b.to + blockIdx.y * b.step_n;
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < b.height * b.width;
       i += int64_t(gridDim.x) * kThreads) {
    const int64_t y = quotient(i, b.width), x = i - y * b.width;
    const bool filled = y < p.new_height && x < p.new_width;
    const Tap row = filled ? tap(y, p.height, p.new_height, p.legacy) : Tap{};
    const Tap column = filled ? tap(x, p.width, p.new_width, p.legacy) : Tap{};
    for (int c = 0; c < 3; ++c) {
      float value = p.padding[c];
      if (filled) {
        const S* from = static_cast<const S*>(p.pixels) + p.source(c);
        const S *top = from + row.low * p.step_y, *bottom = from + row.high * p.step_y;
        const int64_t left = column.low * p.step_x, right = column.high * p.step_x;
        value = p.channels[c](blend(blend(float(top[left]), float(top[right]), column.weight),
                                    blend(float(bottom[left]), float(bottom[right]), column.weight), row.weight));
      }
      to[c * b.step_c + y * b.step_y + x * b.step_x] = T(value);
    }
  }
}

// One launch serves up to 16 consecutive images of one dtype.
template <typename T> void run(const OnDevice& on, const std::vector<Tensor>& images, const Options& o, Tensor& batch) {
  const int64_t count = int64_t(images.size());
  for (int64_t first = 0, next; first < count; first = next) {
    Batch<T> b{};
    b.to = mutable_data<T>(batch) + first * batch.stride(0);
    b.step_n = batch.stride(0), b.step_c = batch.stride(1), b.step_y = batch.stride(2), b.step_x = batch.stride(3);
    b.height = o.height, b.width = o.width;
    const auto together = [&](int64_t n) {
      return n < count && n < first + kImages && images[n].scalar_type() == images[first].scalar_type();
    };
    for (next = first; together(next); ++next) b.images[next - first] = describe_image(images[next], next, o);
    const dim3 grid(unsigned(lower(ceil_div(o.height * o.width, kThreads), kMaxBlocks)), unsigned(next - first));
    dispatch_image(images[first], [&](auto image_type) {
      launch(on, &preprocess<typename decltype(image_type)::type, T>, grid, kThreads, b);
    });
  }
}

Tensor cuda(const std::vector<Tensor>& images, HeaderOnlyArrayRef<int64_t> heights, HeaderOnlyArrayRef<int64_t> widths,
            int64_t height, int64_t width, HeaderOnlyArrayRef<double> mean, HeaderOnlyArrayRef<double> deviation,
            double shift, double white, bool legacy, bool bgr, bool pad_normalized, ScalarType dtype,
            bool channels_last) {
  const Options o{heights, widths, height, width,          mean,  deviation,    shift,
                  white,   legacy, bgr,    pad_normalized, dtype, channels_last};
  return on_cuda(images, o);
}

}  // namespace

Tensor on_cuda(const std::vector<Tensor>& images, const Options& o) {
  Tensor batch = check_and_allocate(images, o);
  const OnDevice on(batch);
  for (const Tensor& image : images) dispatch_image(image, [](auto) {});  // reports wrong types before the first launch
  dispatch_floating(batch, "dtype", [&](auto type) { run<typename decltype(type)::type>(on, images, o, batch); });
  return batch;
}

STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CUDA, m) { m.impl("preprocess", PYRCNN_BOX(&cuda)); }
}  // namespace pyrcnn::preprocess
