#include <algorithm>
#include <atomic>

#include "tile_conv_check.h"
#include "tile_conv_kernel.h"

namespace pyrcnn::tile_conv {
namespace {

constexpr int64_t kPatchBytes = 512 << 10;  // of a workspace, about: a quarter of the second cache of machines with AMX
constexpr int64_t kTasksPerThread = 4;      // so that a thread that is held up leaves work to the others
constexpr int64_t kLeastPixels = 256;       // of a task: all weights are read anew for each
constexpr int64_t kWorthAThread = 20'000'000;  // multiplications: 20 us with AMX

int64_t patch_bytes(const Layer& l, int64_t rows, int64_t columns) {
  const Patch p = patch_of(l, rows, columns);
  return int64_t(sizeof(BFloat16)) * p.rows * p.columns * p.pixel;
}

// How the result is cut. What a result is the sum of, and in which order, depends on none of it.
void plan(Layer& l, int64_t images, int64_t threads) {
  l.tile_columns = l.columns;
  while (l.tile_columns > kGroup && patch_bytes(l, l.stride == 1 ? 4 : 2, l.tile_columns) > kPatchBytes)
    l.tile_columns = ceil_div(ceil_div(l.tile_columns, 2), kGroup) * kGroup;
  const int64_t row = patch_bytes(l, 2, l.tile_columns) - patch_bytes(l, 1, l.tile_columns);
  const int64_t fit = std::max<int64_t>((kPatchBytes - patch_bytes(l, 1, l.tile_columns)) / row + 1, 1);
  const int64_t across = ceil_div(l.columns, l.tile_columns) * images;
  const int64_t wanted = threads == 1 ? 1 : ceil_div(kTasksPerThread * threads, across);
  const int64_t least = ceil_div(kLeastPixels, l.tile_columns);
  l.tile_rows = std::min({l.rows, fit, std::max(least, ceil_div(l.rows, wanted))});
  l.tile_rows = ceil_div(l.rows, ceil_div(l.rows, l.tile_rows));
}

Tensor convolve_cpu(const Tensor& input, const Tensor& weight, const Tensor& bias, const std::optional<Tensor>& other,
                    int64_t outputs, int64_t kernel, int64_t stride, int64_t padding, double low, double high) {
  Layer l = check_convolve(input, weight, bias, other, outputs, kernel, stride, padding, low, high);
  const int64_t images = input.size(0);
  const Tensor out = empty_result(input, images, outputs, l.rows, l.columns, true);
  if (out.numel() == 0) return out;
  const Tensor from = nhwc(input);
  const Tensor added = other ? nhwc(*other) : from;
  l.input = data<BFloat16>(from);
  l.weight = data<BFloat16>(weight);
  l.bias = data<float>(bias);
  l.other = other ? data<BFloat16>(added) : nullptr;
  l.output = mutable_data<BFloat16>(out);
  l.tiles = cpu_tiles();
  const int64_t panels = weight.size(0), multiplications = out.numel() * weight.size(1) * 2;
  const int64_t threads = std::clamp<int64_t>(multiplications / kWorthAThread, 1, torch::stable::get_num_threads());
  plan(l, images, threads);
  const int64_t down = ceil_div(l.rows, l.tile_rows), across = ceil_div(l.columns, l.tile_columns);
  const int64_t tiles = images * down * across;
  const int64_t wanted = threads == 1 ? 1 : std::clamp<int64_t>(kTasksPerThread * threads / tiles, 1, panels);
  const int64_t share = ceil_div(panels, wanted), shares = ceil_div(panels, share);
  const auto run = PYRCNN_KERNEL(convolve);
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t, int64_t) {  // takes tasks until there are none, however many threads do
    const auto memory = workspace<BFloat16>(workspace_values(l) + kLine);
    BFloat16* patch = memory.get() + (-reinterpret_cast<uintptr_t>(memory.get()) % 64) / sizeof(BFloat16);
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tiles * shares;) {
      const int64_t tile = i / shares, panel = i % shares * share;
      const int64_t row = tile / across % down * l.tile_rows, column = tile % across * l.tile_columns;
      run(l,
          {tile / across / down, row, column, std::min(l.tile_rows, l.rows - row),
           std::min(l.tile_columns, l.columns - column), panel, std::min(share, panels - panel)},
          patch);
    }
  };
  if (threads == 1) work(0, 1);
  else torch::stable::parallel_for(0, threads, 1, work);
  return out;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_tile_conv2d", TORCH_BOX(&convolve_cpu)); }
}  // namespace pyrcnn::tile_conv
