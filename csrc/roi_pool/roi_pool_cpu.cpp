#include <algorithm>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>

#include "common/cpu/groups.h"
#include "common/cpu/memory.h"
#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "roi_pool_check.h"
#include "roi_pool_kernel.h"

namespace pyrcnn::roi_pool {
namespace {

constexpr double kNanosecondsPerCell = 0.1;  // one cell of one channel; a bin has about 16 cells
constexpr int64_t kAhead = 16;               // bins by which prefetches are ahead

// The images of all RoIs and, for the forward pass, their cells.
template <typename C> struct Regions {
  std::vector<int64_t> image;
  std::vector<Cells> cells;

  // Throws if a RoI's batch index is out of range.
  Regions(const Tensor& rois, int64_t images) : image(rois.size(0)) {
    const C* roi = data<C>(rois);
    for (size_t k = 0; k < image.size(); ++k, roi += 5) {
      check(roi[0] >= C(0) && roi[0] < C(images), "rois has batch index ", roi[0], " at row ", k, ", out of range for ",
            images, " images");
      image[k] = int64_t(roi[0]);
    }
  }

  void find_cells(const Tensor& rois, int64_t images, double scale, const Shape& s) {
    cells.assign(image.size() * size_t(s.bins_y + s.bins_x), Cells{0, 0});
    Cells* next_cells = cells.data();
    for (size_t k = 0; k < image.size(); ++k, next_cells += s.bins_y + s.bins_x) {
      const Region<C> r = region(data<C>(rois) + 5 * k, images, C(scale), s.bins_y, s.bins_x);
      if (!r.finite) continue;
      for (int32_t p = 0; p < s.bins_y; ++p) next_cells[p] = roi_pool::cells(r.y, p, s.height);
      for (int32_t q = 0; q < s.bins_x; ++q) next_cells[s.bins_y + q] = roi_pool::cells(r.x, q, s.width);
    }
  }

  Groups by_image() const { return {image, std::less<int64_t>()}; }

  Bins bins(int64_t k, const Shape& s) const {
    const Cells* rows = cells.data() + k * (s.bins_y + s.bins_x);
    return {rows, rows + s.bins_y};
  }
};

template <typename T, typename C>
void forward(const Tensor& input, const Regions<C>& regions, const Shape& s, bool channels_last, T* out,
             Places argmax) {
  const int64_t bins = int64_t(s.bins_y) * s.bins_x, pixels = int64_t(s.height) * s.width;
  const double cost = 16 * kNanosecondsPerCell * double(bins);
  if (channels_last) {
    const auto pool = PYRCNN_KERNEL(pool_nhwc<T>);
    const int64_t step = bins * s.channels;
    return parallel(int64_t(regions.image.size()), cost * double(s.channels), [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; ++k) {
        pool(regions.bins(k, s), s, data<T>(input) + regions.image[k] * pixels * s.channels, out + k * step,
             argmax.at(k * step));
      }
    });
  }
  const auto load = PYRCNN_KERNEL(load_tile<T>);
  const auto pool = PYRCNN_KERNEL(pool_tile<T>);
  const Groups groups = regions.by_image();
  const int64_t blocks = ceil_div(s.channels, kBlock), images = groups.size();
  const double per_block =
      cost * kBlock * double(regions.image.size()) / double(images) + 0.1 * double(pixels * kBlock);
  parallel(images * blocks, per_block, [&](int64_t first, int64_t last) {
    const auto tile = workspace<T>(pixels * kBlock), scratch = workspace<T>(bins * kBlock);
    const auto indices = workspace<int32_t>(bins * kBlock);
    for (int64_t task = first; task < last; ++task) {
      const int64_t group = task / blocks, image = groups.number[group], c = task % blocks * kBlock,
                    count = std::min<int64_t>(kBlock, s.channels - c);
      load(data<T>(input) + (image * s.channels + c) * pixels, pixels, count, tile.get());
      for (int64_t i = groups.start[group]; i < groups.start[group + 1]; ++i) {
        const int64_t k = groups.order[i], at = (k * s.channels + c) * bins;
        pool(regions.bins(k, s), s, tile.get(), count, scratch.get(), indices.get(), out + at, argmax.at(at));
      }
    }
  });
}

std::tuple<Tensor, Tensor> forward_cpu(const Tensor& input, const Tensor& rois, double scale, int64_t output_height,
                                       int64_t output_width, int64_t argmax_bits) {
  check_input(input, rois, scale, output_height, output_width, argmax_bits);
  const bool channels_last = is_channels_last(input);
  const int64_t count = rois.size(0), channels = input.size(1);
  const Tensor out = empty_result("output_height", input, count, channels, output_height, output_width, channels_last);
  const ScalarType places = place_type(argmax_bits);
  const Tensor argmax = argmax_bits > 0 ? empty_result("output_height", input, count, channels, output_height,
                                                       output_width, channels_last, places)
                                        : torch::stable::new_empty(input, {0}, places);
  dispatch_floating(input, "input", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const Shape s{channels, int32_t(input.size(2)), int32_t(input.size(3)), int32_t(output_height),
                  int32_t(output_width)};
    const Tensor from = compute_rois<C>(rois);
    Regions<C> regions(from, input.size(0));
    if (out.numel() == 0) return;
    regions.find_cells(from, input.size(0), scale, s);
    const Places where{argmax_bits == 16 ? mutable_data<int16_t>(argmax) : nullptr,
                       argmax_bits == 32 ? mutable_data<int32_t>(argmax) : nullptr};
    forward<T, C>(dense(input), regions, s, channels_last, mutable_data<T>(out), where);
  });
  return {out, argmax};
}

// Strides between channels, between rows of bins, and between bins of a row.
struct Steps {
  int64_t channel, row, bin;
};

// Adds one RoI's gradient to the sums of `channels` adjacent channels: [pixels, kBlock] if `nhwc`, else [kBlock,
// pixels]. Several channels are added in turn, because an addition waits for one before it that may have the same
// address.
template <int channels, bool nhwc, typename T, typename C, typename I>
void add(const Shape& s, const T* grad, const Steps& of_grad, const I* argmax, const Steps& of_argmax, C* sums) {
  const int64_t pixels = int64_t(s.height) * s.width;
  for (int64_t p = 0; p < s.bins_y; ++p)
    for (int64_t q = 0; q < s.bins_x; ++q) {
      const T* value = grad + p * of_grad.row + q * of_grad.bin;
      const I* place = argmax + p * of_argmax.row + q * of_argmax.bin;
      if constexpr (channels * sizeof(T) >= 64) {  // too far apart for the hardware prefetcher
        __builtin_prefetch(value + kAhead * of_grad.bin);
        __builtin_prefetch(value + kAhead * of_grad.bin + channels - 1);
        __builtin_prefetch(place + kAhead * of_argmax.bin);
      }
#pragma GCC unroll 8
      for (int j = 0; j < channels; ++j) {
        const int64_t pixel = place[j * of_argmax.channel];
        if (pixel >= 0 && pixel < pixels)
          sums[nhwc ? pixel * kBlock + j : j * pixels + pixel] += C(value[j * of_grad.channel]);
      }
    }
}

// A task is one block of channels of one image. It adds the RoIs in ascending order, so the sums do not depend on the
// number of threads. `grad` may have any strides, so an expanded one is not copied.
template <typename T, typename C, typename I, bool nhwc>
void backward(const Tensor& grad, const Tensor& argmax, const Regions<C>& regions, const Shape& s, bool channels_last,
              const Tensor& out) {
  const int64_t bins = int64_t(s.bins_y) * s.bins_x, pixels = int64_t(s.height) * s.width, images = out.size(0);
  const Steps of_grad{grad.stride(1), grad.stride(2), grad.stride(3)};
  const Steps of_argmax = nhwc ? Steps{1, s.bins_x * s.channels, s.channels} : Steps{bins, s.bins_x, 1};
  constexpr int together = nhwc ? int(kBlock) : 4;
  constexpr int64_t pixel_step = nhwc ? kBlock : 1;
  const int64_t plane_step = nhwc ? 1 : pixels, blocks = ceil_div(s.channels, kBlock);
  const double cost =
      double(bins * kBlock * int64_t(regions.image.size())) / double(images) + 0.5 * double(pixels * kBlock);
  const Groups groups = regions.by_image();
  parallel(images * blocks, cost, [&](int64_t first, int64_t last) {
    const auto sums = workspace<C>(pixels * kBlock);
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task / blocks, c = task % blocks * kBlock,
                    count = std::min<int64_t>(kBlock, s.channels - c);
      std::fill_n(sums.get(), pixels * kBlock, C(0));
      const auto [begin, end] = groups.find(image);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t k = groups.order[i];
        const T* from = data<T>(grad) + k * grad.stride(0) + c * of_grad.channel;
        const I* index = data<I>(argmax) + k * s.channels * bins + c * of_argmax.channel;
        const auto add_from = [&](auto channels, int64_t j) {
          add<channels(), nhwc>(s, from + j * of_grad.channel, of_grad, index + j * of_argmax.channel, of_argmax,
                                sums.get() + j * plane_step);
        };
        int64_t j = 0;
        for (; j + together <= count; j += together) add_from(std::integral_constant<int, together>{}, j);
        for (; j < count; ++j) add_from(std::integral_constant<int, 1>{}, j);
      }
      T* to = mutable_data<T>(out) + image * s.channels * pixels;
      const auto sum = [&](int64_t i, int64_t j) { return T(sums[i * pixel_step + j * plane_step]); };
      if (channels_last) {
        for (int64_t i = 0; i < pixels; ++i)
          for (int64_t j = 0; j < count; ++j) to[i * s.channels + c + j] = sum(i, j);
      } else {
        for (int64_t j = 0; j < count; ++j)
          for (int64_t i = 0; i < pixels; ++i) to[(c + j) * pixels + i] = sum(i, j);
      }
    }
  });
}

Tensor backward_cpu(const Tensor& grad, const Tensor& argmax, const Tensor& rois, double scale, int64_t images,
                    int64_t height, int64_t width, bool channels_last, bool /*deterministic: always*/) {
  check_backward(grad, argmax, rois, scale, images, height, width);
  const int64_t channels = grad.size(1);
  const Tensor out = empty_result("height", grad, images, channels, height, width, channels_last);
  dispatch_floating(grad, "grad", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const Shape s{channels, int32_t(height), int32_t(width), int32_t(grad.size(2)), int32_t(grad.size(3))};
    const Regions<C> regions(compute_rois<C>(rois), images);
    if (out.numel() == 0) return;
    dispatch_places(argmax.scalar_type(), [&](auto place) {
      using I = typename decltype(place)::type;
      const Tensor where = dense(argmax);
      const auto run = is_channels_last(where) ? backward<T, C, I, true> : backward<T, C, I, false>;
      run(grad, where, regions, s, channels_last, out);
    });
  });
  return out;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("roi_pool", PYRCNN_BOX(&forward_cpu));
  m.impl("_roi_pool_backward", PYRCNN_BOX(&backward_cpu));
}
}  // namespace pyrcnn::roi_pool
