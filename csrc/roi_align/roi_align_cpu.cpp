#include "common/cpu/memory.h"
#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "roi_align_kernel.h"
#include "roi_align_tables.h"

namespace pyrcnn::roi_align {
namespace {

constexpr double kNanosecondsPerTap = 0.1;  // one tap of one channel

// The cost of pooling one RoI, estimated from the bins and the samples asked for.
double roi_cost(const Options& o, int64_t channels) {
  const double per_axis = o.sampling_ratio > 0 ? 2.0 * o.sampling_ratio : 6.0;
  return kNanosecondsPerTap * double(channels) * o.bins_y * o.bins_x * per_axis * per_axis;
}

// Threads share the RoIs. Neighbouring RoIs follow each other, so what one reads is in the cache for the next.
template <typename T, typename C>
void forward_nhwc(const std::vector<Tensor>& features, const Pyramid<C>& pyramid, const Options& o,
                  const Tables<C>& tables, T* out) {
  const auto pool = PYRCNN_KERNEL(pool_nhwc<T>);
  const int64_t channels = pyramid.channels, step = channels * o.bins_y * o.bins_x;
  const Groups groups = tables.by_plane();
  parallel(int64_t(tables.taps.size()), roi_cost(o, channels), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t k = groups.order[i];
      const int64_t level = tables.plane[k] / pyramid.images, image = tables.plane[k] % pyramid.images;
      const int64_t size = int64_t(pyramid.height[level]) * pyramid.width[level];
      pool(tables.taps[k], data<T>(features[level]) + image * size * channels, pyramid.width[level], channels,
           out + k * step);
    }
  });
}

// Threads share the blocks of channels of all planes, in an order that gives every thread large and small levels. The
// rows that RoIs touch are reordered to an NHWC tile that stays in the cache, and RoIs are pooled from the tile.
template <typename T, typename C>
void forward_nchw(const std::vector<Tensor>& features, const Pyramid<C>& pyramid, const Options& o,
                  const Tables<C>& tables, T* out) {
  const auto gather = PYRCNN_KERNEL(gather_rows<T>);
  const auto pool = PYRCNN_KERNEL(pool_tile<T>);
  constexpr int64_t block = line_block<T>;
  const int64_t channels = pyramid.channels, bins = int64_t(o.bins_y) * o.bins_x;
  const Groups groups = tables.by_plane();
  const int64_t blocks = ceil_div(channels, block), planes = groups.size();
  int64_t largest = 0;
  for (int32_t l = 0; l < pyramid.levels; ++l)
    largest = std::max(largest, int64_t(pyramid.height[l]) * pyramid.width[l]);
  const double cost = roi_cost(o, block) * double(tables.taps.size()) / double(planes) + double(largest * block) * 0.1;
  parallel(planes * blocks, cost, [&](int64_t first, int64_t last) {
    const auto tile = workspace<T>(largest * block);
    const auto scratch = workspace<T>(bins * block);
    for (int64_t task = first; task < last; ++task) {
      const int64_t group = task % planes, plane = groups.number[group];
      const int64_t level = plane / pyramid.images, image = plane % pyramid.images;
      const int64_t c = task / planes * block, count = std::min(block, channels - c);
      const int64_t height = pyramid.height[level], width = pyramid.width[level];
      const int64_t begin = groups.start[group], end = groups.start[group + 1];
      std::vector<bool> needed(height, false);
      for (int64_t i = begin; i < end; ++i) {
        const Taps<C>& taps = tables.taps[groups.order[i]];
        std::fill(needed.begin() + taps.first_row, needed.begin() + taps.last_row, true);
      }
      const T* planes_of_block = data<T>(features[level]) + (image * channels + c) * height * width;
      for (int64_t row = 0; row < height; ++row)
        if (needed[row]) gather(planes_of_block, height, width, count, row, row + 1, tile.get());
      for (int64_t i = begin; i < end; ++i) {
        const int64_t k = groups.order[i];
        pool(tables.taps[k], tile.get(), width, count, scratch.get(), out + (k * channels + c) * bins);
      }
    }
  });
}

Tensor cpu(const std::vector<Tensor>& features, const Tensor& rois, Numbers scales, int64_t output_height,
           int64_t output_width, int64_t sampling_ratio, bool aligned, double canonical_size, int64_t canonical_level) {
  check_features(features, rois);
  const Options o = options(output_height, output_width, sampling_ratio, aligned);
  const bool channels_last = common_layout(features);
  const Tensor out = empty_result("output_height", features[0], rois.size(0), features[0].size(1), output_height,
                                  output_width, channels_last);
  dispatch_floating(features[0], "features", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const auto sizes = pyramid<C>(features, scales, canonical_size, canonical_level);
    const Tables<C> tables(sizes, o, compute_rois<C>(rois), out.numel() > 0);
    if (out.numel() == 0) return;
    std::vector<Tensor> dense_features;
    for (const Tensor& t : features) dense_features.push_back(in_layout(t, channels_last));
    T* to = mutable_data<T>(out);
    if (channels_last) return forward_nhwc<T>(dense_features, sizes, o, tables, to);
    forward_nchw<T>(dense_features, sizes, o, tables, to);
  });
  return out;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("roi_align", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::roi_align
