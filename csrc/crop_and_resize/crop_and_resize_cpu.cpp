#include <algorithm>

#include "common/cpu/memory.h"
#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "crop_and_resize_check.h"
#include "crop_and_resize_kernel.h"

namespace pyrcnn::crop_and_resize {
namespace {

constexpr double kNanosecondsPerSample = 0.8;
constexpr int64_t kChannelsAtOnce = 64;  // in the backward pass: channels that one step adds to

template <typename T, typename B> void run(const Crops<T, B>& crops, const T* features, T* out) {
  using C = compute_t<T>;
  const int64_t map = crops.height * crops.width, crop = crops.rows * crops.columns, channels = crops.channels;
  const auto last = PYRCNN_KERNEL(crop_row_last<T>);
  const auto first = PYRCNN_KERNEL(crop_row_first<T>);
  parallel(crops.count, double(channels * crop) * kNanosecondsPerSample, [&](int64_t begin, int64_t end) {
    std::vector<Tap<C>> columns(crops.columns);
    for (int64_t k = begin; k < end; ++k) {
      T* to = out + k * channels * crop;
      if (!crops.has_image(k)) {
        std::fill(to, to + channels * crop, T(crops.outside));
        continue;
      }
      for (int64_t x = 0; x < crops.columns; ++x) columns[x] = crops.column(k, x);
      const T* image = features + crops.images[k] * channels * map;
      for (int64_t y = 0; y < crops.rows; ++y) {
        const Tap<C> row = crops.row(k, y);
        const int64_t top = std::max<int64_t>(row.low, 0) * crops.width,
                      bottom = std::max<int64_t>(row.high, 0) * crops.width;
        if (crops.channels_last) {
          T* line = to + y * crops.columns * channels;
          if (row.low < 0) std::fill(line, line + crops.columns * channels, T(crops.outside));
          else
            last(image + top * channels, image + bottom * channels, line, columns.data(), crops.columns, channels,
                 row.weight, crops.outside);
          continue;
        }
        for (int64_t c = 0; c < channels; ++c) {
          T* line = to + c * crop + y * crops.columns;
          if (row.low < 0) std::fill(line, line + crops.columns, T(crops.outside));
          else
            first(image + c * map + top, image + c * map + bottom, line, columns.data(), crops.columns, row.weight,
                  crops.outside);
        }
      }
    }
  });
}

// Whether to reorder NCHW maps, line_block<T> channels at a time, and to crop them as NHWC. This pays if the maps are
// cropped often enough.
template <typename T, typename B> bool tiles_pay(const Crops<T, B>& crops) {
  constexpr int64_t kTimesFaster = 4;
  if (crops.height * crops.width == 0) return false;  // then there may be any number of maps
  const int64_t tasks = crops.maps * (crops.channels / line_block<T>);
  return !crops.channels_last && tasks * kTimesFaster >= torch::stable::get_num_threads() &&
         crops.count * crops.rows * crops.columns * kTimesFaster >= crops.maps * crops.height * crops.width;
}

template <typename T, typename B> void run_tiles(const Crops<T, B>& crops, const T* features, T* out) {
  using C = compute_t<T>;
  constexpr int64_t block = line_block<T>;
  const int64_t map = crops.height * crops.width, crop = crops.rows * crops.columns, channels = crops.channels;
  const int64_t blocks = ceil_div(channels, block), axes = crops.rows + crops.columns;
  const auto load = PYRCNN_KERNEL(load_tile<T>);
  const auto store = PYRCNN_KERNEL(store_tile<T>);
  const auto crop_row = PYRCNN_KERNEL(crop_row_last<T>);
  std::vector<Tap<C>> taps(crops.count * axes);  // of the rows and columns of every crop
  for (int64_t k = 0; k < crops.count; ++k) {
    if (!crops.has_image(k)) {
      std::fill_n(out + k * channels * crop, channels * crop, T(crops.outside));
      continue;
    }
    for (int64_t y = 0; y < crops.rows; ++y) taps[k * axes + y] = crops.row(k, y);
    for (int64_t x = 0; x < crops.columns; ++x) taps[k * axes + crops.rows + x] = crops.column(k, x);
  }
  const double per_block = double(crops.count * crop * block) / double(std::max<int64_t>(crops.maps, 1));
  parallel(crops.maps * blocks, (per_block + double(map * block)) * 0.25, [&](int64_t begin, int64_t end) {
    const auto tile = workspace<T>(map * block), scratch = workspace<T>(crop * block);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / blocks, c = task % blocks * block, count = std::min(block, channels - c);
      bool loaded = false;
      for (int64_t k = 0; k < crops.count; ++k) {
        if (crops.images[k] != n || !crops.has_image(k)) continue;
        if (!loaded) load(features + (n * channels + c) * map, map, count, tile.get());
        loaded = true;
        const Tap<C>*rows = taps.data() + k * axes, *columns = rows + crops.rows;
        for (int64_t y = 0; y < crops.rows; ++y) {
          T* line = scratch.get() + y * crops.columns * block;
          if (rows[y].low < 0) std::fill_n(line, crops.columns * block, T(crops.outside));
          else
            crop_row(tile.get() + rows[y].low * crops.width * block, tile.get() + rows[y].high * crops.width * block,
                     line, columns, crops.columns, block, rows[y].weight, crops.outside);
        }
        store(scratch.get(), crop, count, out + (k * channels + c) * crop);
      }
    }
  });
}

// Each step adds the crops in order to some channels of one image, so the sums do not depend on the number of threads.
template <typename T, typename B> void run_backward(const Crops<T, B>& crops, const T* grad, compute_t<T>* sums) {
  using C = compute_t<T>;
  const int64_t map = crops.height * crops.width, crop = crops.rows * crops.columns, channels = crops.channels;
  const int64_t blocks = ceil_div(channels, kChannelsAtOnce);
  const auto spread = PYRCNN_KERNEL(spread_last<T>);
  const double cost = double(crops.count * crop * kChannelsAtOnce) / double(std::max<int64_t>(crops.maps, 1));
  parallel(crops.maps * blocks, cost * kNanosecondsPerSample, [&](int64_t begin, int64_t end) {
    std::vector<Tap<C>> columns(crops.columns);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / blocks, from = i % blocks * kChannelsAtOnce,
                    to = std::min(from + kChannelsAtOnce, channels);
      C* image = sums + n * channels * map;
      for (int64_t k = 0; k < crops.count; ++k) {
        if (crops.images[k] != n || !crops.has_image(k)) continue;
        for (int64_t x = 0; x < crops.columns; ++x) columns[x] = crops.column(k, x);
        const T* given = grad + k * channels * crop;
        for (int64_t y = 0; y < crops.rows; ++y) {
          const Tap<C> row = crops.row(k, y);
          if (row.low < 0) continue;
          if (crops.channels_last) {
            spread(given + y * crops.columns * channels, image + row.low * crops.width * channels,
                   image + row.high * crops.width * channels, columns.data(), crops.columns, channels, from, to,
                   row.weight);
            continue;
          }
          for (int64_t c = from; c < to; ++c)  // a plane is a map of one channel
            spread(given + c * crop + y * crops.columns, image + c * map + row.low * crops.width,
                   image + c * map + row.high * crops.width, columns.data(), crops.columns, 1, 0, 1, row.weight);
        }
      }
    }
  });
}

Tensor cpu(const Tensor& features, const Tensor& boxes, const Tensor& box_indices, int64_t rows, int64_t columns,
           double extrapolation) {
  check_crops(features, boxes, box_indices, rows, columns);
  const bool channels_last = is_channels_last(features);
  Tensor out = empty_result("rows", features, boxes.size(0), features.size(1), rows, columns, channels_last);
  if (out.numel() == 0) return out;
  const Tensor maps = dense(features), b = as_contiguous(boxes), i = as_contiguous(box_indices);
  dispatch(maps, "features", boxes, [&](auto type, auto box_type) {
    using T = typename decltype(type)::type;
    using B = typename decltype(box_type)::type;
    const auto all = crops<T, B>(maps, out, b, i, channels_last, extrapolation);
    if (tiles_pay(all)) run_tiles(all, data<T>(maps), mutable_data<T>(out));
    else run(all, data<T>(maps), mutable_data<T>(out));
  });
  return out;
}

Tensor backward_cpu(const Tensor& grad, const Tensor& boxes, const Tensor& box_indices, int64_t images, int64_t height,
                    int64_t width, bool channels_last) {
  Tensor sums = check_and_allocate_backward(grad, boxes, box_indices, images, height, width, channels_last);
  torch::stable::zero_(sums);
  const Tensor given = in_layout(grad, channels_last);
  const Tensor b = as_contiguous(boxes), i = as_contiguous(box_indices);
  dispatch(given, "grad", boxes, [&](auto type, auto box_type) {
    using T = typename decltype(type)::type;
    using B = typename decltype(box_type)::type;
    if (sums.numel() > 0 && grad.numel() > 0)
      run_backward(crops<T, B>(sums, grad, b, i, channels_last, 0), data<T>(given), mutable_data<compute_t<T>>(sums));
  });
  return sums;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) {
  m.impl("crop_and_resize", PYRCNN_BOX(&cpu));
  m.impl("_crop_and_resize_backward", PYRCNN_BOX(&backward_cpu));
}
}  // namespace pyrcnn::crop_and_resize
