#include <algorithm>
#include <memory>
#include <tuple>

#include "roi_pool_check.h"
#include "roi_pool_kernel.h"

namespace pyrcnn::roi_pool {
namespace {

constexpr double kNanosecondsPerCell = 0.1;  // one cell of one channel; bins have some 16 cells

// RoIs of the compute type C with their geometry, grouped by image.
template <typename C> struct Regions {
  std::vector<int64_t> image;
  std::vector<int64_t> start, order;  // the RoIs of image n: order[start[n]] .. order[start[n + 1]], ascending
  std::vector<Cells> cells;

  Regions(const Tensor& rois, int64_t images, double scale, const Shape& s)
      : image(rois.size(0)), cells(image.size() * (s.bins_y + s.bins_x), Cells{0, 0}) {
    const C* roi = data<C>(rois);
    Cells* next_cells = cells.data();
    for (size_t k = 0; k < image.size(); ++k, next_cells += s.bins_y + s.bins_x) {
      const Region<C> r = region(roi + 5 * k, images, C(scale), s.bins_y, s.bins_x);
      check(r.in_batch, "rois has batch index ", roi[5 * k], " at row ", k, ", out of range for ", images, " images");
      image[k] = r.image;
      if (!r.finite) continue;
      for (int32_t p = 0; p < s.bins_y; ++p) next_cells[p] = roi_pool::cells(r.y, p, s.height);
      for (int32_t q = 0; q < s.bins_x; ++q) next_cells[s.bins_y + q] = roi_pool::cells(r.x, q, s.width);
    }
    start.assign(images + 1, 0);
    for (int64_t n : image) ++start[n + 1];
    for (int64_t n = 0; n < images; ++n) start[n + 1] += start[n];
    order.resize(image.size());
    std::vector<int64_t> next(start);
    for (size_t k = 0; k < image.size(); ++k) order[next[image[k]]++] = int64_t(k);
  }

  Bins bins(int64_t k, const Shape& s) const {
    const Cells* rows = cells.data() + k * (s.bins_y + s.bins_x);
    return {rows, rows + s.bins_y};
  }
};

template <typename T, typename C>
void forward(const Tensor& input, const Regions<C>& regions, const Shape& s, bool channels_last, T* out,
             int32_t* argmax) {
  const int64_t bins = int64_t(s.bins_y) * s.bins_x, pixels = int64_t(s.height) * s.width, images = input.size(0);
  const double cost = 16 * kNanosecondsPerCell * double(bins);
  if (channels_last) {
    const auto pool = PYRCNN_KERNEL(pool_nhwc<T>);
    const int64_t step = bins * s.channels;
    return parallel(int64_t(regions.image.size()), cost * double(s.channels), [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; ++k) {
        pool(regions.bins(k, s), s, data<T>(input) + regions.image[k] * pixels * s.channels, out + k * step,
             argmax ? argmax + k * step : nullptr);
      }
    });
  }
  const auto load = PYRCNN_KERNEL(load_tile<T>);
  const auto pool = PYRCNN_KERNEL(pool_tile<T>);
  const int64_t blocks = ceil_div(s.channels, kBlock);
  const double per_block =
      cost * kBlock * double(regions.image.size()) / double(images) + 0.1 * double(pixels * kBlock);
  parallel(images * blocks, per_block, [&](int64_t first, int64_t last) {
    const auto tile = workspace<T>(pixels * kBlock), scratch = workspace<T>(bins * kBlock);
    const auto indices = workspace<int32_t>(bins * kBlock);
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task / blocks, c = task % blocks * kBlock,
                    count = std::min<int64_t>(kBlock, s.channels - c);
      const int64_t begin = regions.start[image], end = regions.start[image + 1];
      if (begin == end) continue;
      load(data<T>(input) + (image * s.channels + c) * pixels, pixels, count, tile.get());
      for (int64_t i = begin; i < end; ++i) {
        const int64_t k = regions.order[i], at = (k * s.channels + c) * bins;
        pool(regions.bins(k, s), s, tile.get(), count, scratch.get(), indices.get(), out + at,
             argmax ? argmax + at : nullptr);
      }
    }
  });
}

std::tuple<Tensor, Tensor> forward_cpu(const Tensor& input, const Tensor& rois, double scale, int64_t output_height,
                                       int64_t output_width, bool with_argmax) {
  check_input(input, rois, scale, output_height, output_width);
  const bool channels_last = is_channels_last(input);
  const int64_t count = rois.size(0), channels = input.size(1);
  const Tensor out = empty_result(input, count, channels, output_height, output_width, channels_last);
  const Tensor argmax =
      with_argmax ? empty_result(input, count, channels, output_height, output_width, channels_last, ScalarType::Int)
                  : torch::stable::new_empty(input, {0}, ScalarType::Int);
  dispatch_floating(input, "input", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const Shape s{channels, int32_t(input.size(2)), int32_t(input.size(3)), int32_t(output_height),
                  int32_t(output_width)};
    const Regions<C> regions(compute_rois<C>(rois), input.size(0), scale, s);
    if (out.numel() == 0) return;
    forward<T, C>(dense(input), regions, s, channels_last, mutable_data<T>(out),
                  with_argmax ? mutable_data<int32_t>(argmax) : nullptr);
  });
  return {out, argmax};
}

// A task owns one block of channels of one image and adds to it RoI after RoI in ascending order, so the sums do not
// depend on the number of threads.
template <typename T, typename C>
void backward(const Tensor& grad, const Tensor& argmax, const Regions<C>& regions, const Shape& s, bool channels_last,
              const Tensor& out) {
  const int64_t bins = int64_t(s.bins_y) * s.bins_x, pixels = int64_t(s.height) * s.width, images = out.size(0);
  const bool nhwc = is_channels_last(grad);
  const Tensor where = in_layout(argmax, nhwc);
  const int64_t bin_stride = nhwc ? s.channels : 1, channel_stride = nhwc ? 1 : bins;
  const int64_t blocks = ceil_div(s.channels, kBlock);
  const double cost =
      double(bins * kBlock * int64_t(regions.image.size())) / double(images) + 0.5 * double(pixels * kBlock);
  parallel(images * blocks, cost, [&](int64_t first, int64_t last) {
    const auto sums = workspace<C>(pixels * kBlock);  // [kBlock, pixels]
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task / blocks, c = task % blocks * kBlock,
                    count = std::min<int64_t>(kBlock, s.channels - c);
      std::fill_n(sums.get(), pixels * kBlock, C(0));
      for (int64_t i = regions.start[image]; i < regions.start[image + 1]; ++i) {
        const int64_t at = regions.order[i] * s.channels * bins + c * channel_stride;
        const T* from = data<T>(grad) + at;
        const int32_t* index = data<int32_t>(where) + at;
        for (int64_t j = 0; j < count; ++j) {
          C* plane = sums.get() + j * pixels;
          for (int64_t b = 0; b < bins; ++b) {
            const int64_t offset = j * channel_stride + b * bin_stride, pixel = index[offset];
            if (pixel >= 0 && pixel < pixels) plane[pixel] += C(from[offset]);
          }
        }
      }
      T* to = mutable_data<T>(out) + image * s.channels * pixels;
      for (int64_t j = 0; j < count; ++j)
        for (int64_t i = 0; i < pixels; ++i)
          to[channels_last ? i * s.channels + c + j : (c + j) * pixels + i] = T(sums[j * pixels + i]);
    }
  });
}

Tensor backward_cpu(const Tensor& grad, const Tensor& argmax, const Tensor& rois, double scale, int64_t images,
                    int64_t height, int64_t width, bool channels_last, bool /*deterministic: always*/) {
  check_backward(grad, argmax, rois);
  const int64_t channels = grad.size(1);
  const Tensor out = empty_result(grad, images, channels, height, width, channels_last);
  dispatch_floating(grad, "grad", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const Shape s{channels, int32_t(height), int32_t(width), int32_t(grad.size(2)), int32_t(grad.size(3))};
    const Regions<C> regions(compute_rois<C>(rois), images, scale, s);  // only the images are used
    if (out.numel() > 0) backward<T, C>(dense(grad), argmax, regions, s, channels_last, out);
  });
  return out;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("roi_pool", TORCH_BOX(&forward_cpu));
  m.impl("_roi_pool_backward", TORCH_BOX(&backward_cpu));
}
}  // namespace pyrcnn::roi_pool
