#include "common/cpu/memory.h"
#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "roi_align_kernel.h"
#include "roi_align_tables.h"

namespace pyrcnn::roi_align {
namespace {

constexpr double kNanosecondsPerTap = 0.2;        // one tap of one channel
constexpr int64_t kTileBytes = int64_t(1) << 20;  // of the sums of a task, which should stay in the L2 cache
constexpr int64_t kTasksPerThread = 4;            // of a plane, if it has enough rows

// Rows [first, last) and one block of channels of one plane. Only one task adds to them, and it takes the RoIs in the
// order of the tables, so the sums do not depend on the number of threads.
struct Task {
  int64_t plane, block, first, last;
};

// Splits all planes into tasks with blocks of `size` channels.
template <typename C> std::vector<Task> split_planes(const Pyramid<C>& pyramid, int64_t size) {
  std::vector<Task> tasks;  // block by block, so that every thread gets large and small levels
  const int64_t blocks = ceil_div(pyramid.channels, size), threads = torch::stable::get_num_threads();
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t plane = 0; plane < pyramid.levels * pyramid.images; ++plane) {
      const int64_t level = plane / pyramid.images, height = pyramid.height[level], width = pyramid.width[level];
      if (height * width == 0) continue;
      const int64_t rows = std::clamp(kTileBytes / int64_t(width * size * sizeof(C)), int64_t{1},
                                      ceil_div(height * blocks, kTasksPerThread * threads));
      for (int64_t first = 0; first < height; first += rows)
        tasks.push_back({plane, block, first, std::min(first + rows, height)});
    }
  return tasks;
}

// The range of bins that contains all bins that read rows [first, last).
struct Bins {
  int64_t first, last;
};
template <typename C> Bins bins_on(const Taps<C>& roi, int64_t first, int64_t last) {
  Bins bins{roi.bins_y, 0};
  for (int64_t p = 0; p < roi.bins_y; ++p)
    for (int32_t i = roi.y.begin[p]; i < roi.y.begin[p + 1]; ++i)
      if (roi.y.taps[i].pixel >= first && roi.y.taps[i].pixel < last)
        bins = {std::min(bins.first, p), std::max(bins.last, p + 1)};
  return {bins.first < bins.last ? bins.first * roi.bins_x : 0, bins.last * roi.bins_x};
}

template <typename T, typename C>
void backward(const Tensor& grad, const Pyramid<C>& pyramid, const Options& o, const Tables<C>& tables,
              const std::vector<Tensor>& grads, bool channels_last) {
  const auto read = PYRCNN_KERNEL(read_grad<T>);
  const auto spread_to = PYRCNN_KERNEL(spread<T>);
  const auto write = PYRCNN_KERNEL(write_pixels<T>);
  const int64_t channels = pyramid.channels, bins = int64_t(o.bins_y) * o.bins_x;
  const bool grad_last = is_channels_last(grad);
  const Groups groups = tables.by_plane();
  // NHWC gradients of the compute type are summed in the result, all channels at once. Others are summed in a tile.
  const bool in_place = std::is_same_v<T, C> && channels_last && grad_last && channels > 0 && channels % kBlock == 0;
  const std::vector<Task> tasks = split_planes(pyramid, in_place ? channels : kBlock);
  int64_t largest = 0;
  for (const Task& t : tasks) largest = std::max(largest, (t.last - t.first) * pyramid.width[t.plane / pyramid.images]);
  const double samples = o.sampling_ratio > 0 ? o.sampling_ratio : 3.0;
  const double taps = 4 * samples * samples * double(bins * channels * int64_t(tables.taps.size()));
  const auto run_tasks = [&](int64_t begin, int64_t end) {
    const auto tile = workspace<C>(in_place ? 0 : largest * kBlock);
    const auto scratch = workspace<T>(in_place ? 0 : bins * kBlock);
    for (int64_t at = begin; at < end; ++at) {
      const Task& task = tasks[at];
      const int64_t level = task.plane / pyramid.images, image = task.plane % pyramid.images;
      const int64_t height = pyramid.height[level], width = pyramid.width[level];
      const int64_t c = task.block * kBlock, count = std::min<int64_t>(kBlock, channels - c);
      const int64_t pixels = (task.last - task.first) * width, pixel = task.first * width;
      T* to = mutable_data<T>(grads[level]) + image * channels * height * width;
      C* sums = tile.get();
      if constexpr (std::is_same_v<T, C>)
        if (in_place) sums = to + pixel * channels;
      std::fill_n(sums, pixels * (in_place ? channels : kBlock), C(0));
      const auto [first, last] = groups.find(task.plane);
      for (int64_t i = first; i < last; ++i) {
        const int64_t k = groups.order[i];
        const Taps<C>& roi = tables.taps[k];
        if (roi.first_row >= task.last || roi.last_row <= task.first) continue;
        const T* from = data<T>(grad) + k * channels * bins + (grad_last ? c : c * bins);
        if (grad_last && count == kBlock) {
          spread_to(roi, from, channels, in_place ? channels : kBlock, width, task.first, task.last, sums);
          continue;
        }
        const Bins needed = bins_on(roi, task.first, task.last);
        read(from + needed.first * (grad_last ? channels : 1), needed.last - needed.first, grad_last ? channels : 1,
             count, grad_last ? 1 : bins, scratch.get() + needed.first * kBlock);
        spread_to(roi, scratch.get(), kBlock, kBlock, width, task.first, task.last, sums);
      }
      if (in_place) continue;
      if (channels_last) write(tile.get(), pixels, channels, count, 1, to + pixel * channels + c);
      else write(tile.get(), pixels, 1, count, height * width, to + c * height * width + pixel);
    }
  };
  const int64_t count = int64_t(tasks.size());
  const double cost = taps * kNanosecondsPerTap + double(count * largest * kBlock) * 0.2;
  if (in_place) parallel_tasks(count, cost, [&](int64_t i) { run_tasks(i, i + 1); });
  else parallel(count, cost / double(count + 1), run_tasks);
}

std::vector<Tensor> cpu(const Tensor& grad, const Tensor& rois, Integers heights, Integers widths, int64_t images,
                        Numbers scales, int64_t sampling_ratio, bool aligned, double canonical_size,
                        int64_t canonical_level, bool channels_last, bool /*deterministic: always*/) {
  check_sizes(grad, rois, heights, widths);
  const Options o = options(grad.size(2), grad.size(3), sampling_ratio, aligned);
  std::vector<Tensor> grads;
  for (size_t l = 0; l < heights.size(); ++l)
    grads.push_back(empty_result("heights", grad, images, grad.size(1), heights[l], widths[l], channels_last));
  dispatch_floating(grad, "grad", [&](auto type) {
    using T = typename decltype(type)::type;
    using C = compute_t<T>;
    const auto sizes = pyramid<C>(images, grad.size(1), heights, widths, scales, canonical_size, canonical_level);
    const bool wanted = std::any_of(grads.begin(), grads.end(), [](const Tensor& t) { return t.numel() > 0; });
    const Tables<C> tables(sizes, o, compute_rois<C>(rois), wanted);
    if (!wanted) return;
    backward<T>(dense(grad), sizes, o, tables, grads, channels_last);
  });
  return grads;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_roi_align_backward", PYRCNN_BOX(&cpu)); }
}  // namespace pyrcnn::roi_align
