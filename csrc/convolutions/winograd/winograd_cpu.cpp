#include <algorithm>

#include "common/cpu/memory.h"
#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "winograd_check.h"
#include "winograd_kernel.h"

namespace pyrcnn::winograd {
namespace {

constexpr int64_t kTiles = 36;  // of a task: their planes of 64 channels, and the products, fit a cache of 512 KiB
constexpr int64_t kRows = 12;   // a multiple of the rows that the kernel multiplies at a time
constexpr int64_t kTasksPerThread = 4;  // so that a thread that is held up leaves work to the others
// Of a task. Each task transforms its tiles anew, which takes a fifth of the time that a panel takes.
constexpr int64_t kLeastPanels = 4;

Tensor convolve_cpu(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& other, double low, double high) {
  check_convolve(input, weight, bias, other);
  const int64_t images = input.size(0), height = input.size(2), width = input.size(3);
  const int64_t panels = weight.size(0), outputs = panels * kPanel;
  const Tensor out = empty_result("weight", input, images, outputs, height, width, true);
  if (out.numel() == 0) return out;
  const Tensor from = nhwc(input);
  const Tensor added = other ? nhwc(*other) : from;
  const Convolution conv{.inputs = input.size(1),
                         .outputs = outputs,
                         .height = height,
                         .width = width,
                         .tiles_y = ceil_div(height, kTile),
                         .tiles_x = ceil_div(width, kTile),
                         .input = data<float>(from),
                         .weight = data<float>(weight),
                         .bias = bias ? data<float>(*bias) : nullptr,
                         .other = other ? data<float>(added) : nullptr,
                         .low = float(low),
                         .high = float(high),
                         .output = mutable_data<float>(out)};
  const int64_t tiles = images * conv.tiles_y * conv.tiles_x;
  const int64_t per_block = ceil_div(ceil_div(tiles, ceil_div(tiles, kTiles)), kRows) * kRows;
  const int64_t blocks = ceil_div(tiles, per_block);
  const int64_t threads = torch::stable::get_num_threads();
  int64_t share = panels;
  while (threads > 1 && blocks * ceil_div(panels, share) < kTasksPerThread * threads && share >= 2 * kLeastPanels)
    share = ceil_div(share, 2);
  const int64_t shares = ceil_div(panels, share);
  const auto kernel = PYRCNN_KERNEL(convolve);
  const int64_t tasks = blocks * shares;
  TaskQueue queue;
  on_threads(std::min(threads, tasks), [&] {
    const auto scratch = workspace<float>(workspace_floats(per_block, conv.inputs));
    queue.run(tasks, [&](int64_t i) {
      const int64_t first = i / shares * per_block, panel = i % shares * share;
      kernel(conv, {first, std::min(per_block, tiles - first), panel, std::min(share, panels - panel)}, scratch.get());
    });
  });
  return out;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_winograd_conv2d", PYRCNN_BOX(&convolve_cpu)); }
}  // namespace pyrcnn::winograd
