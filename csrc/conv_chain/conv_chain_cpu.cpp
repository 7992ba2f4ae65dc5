#include <algorithm>
#include <atomic>

#include "conv_chain_check.h"
#include "conv_chain_kernel.h"

namespace pyrcnn::conv_chain {
namespace {

constexpr int64_t kColumns = 64;              // of a tile behind a depthwise convolution, at most
constexpr int64_t kPixels = 128;              // of a tile without one, at most
constexpr int64_t kLeastRows = 8;             // of a tile: its first and last one make a row more be expanded
constexpr int64_t kTasksPerThread = 4;        // so that a thread that is held up leaves work to the others
constexpr int64_t kWorthAThread = 4'000'000;  // multiplications: 0.1 ms, what waking one may take
constexpr int64_t kChunkBytes = 256 << 10;    // of a workspace and its weights: half of a cache of 512 KiB
constexpr int64_t kSumsBytes = 256 << 10;     // of the sums beside it

// [N, H, W, C], contiguous: for channels_last the same memory.
Tensor nhwc(const Tensor& t) {
  return as_contiguous(torch::stable::transpose(torch::stable::transpose(t, 1, 2), 2, 3));
}

// How the result is cut: see Chain. What a result is the sum of, and in which order, depends on the sizes alone.
void plan(Chain& c, int64_t images, int64_t threads) {
  const int64_t all = panels(middle(c));
  const int64_t most = c.depthwise.weight ? kColumns : kPixels;
  c.tile_columns = ceil_div(c.columns, ceil_div(c.columns, most));
  const int64_t across = ceil_div(c.columns, c.tile_columns) * images;
  const int64_t wanted = threads == 1 ? 1 : ceil_div(kTasksPerThread * threads, across);
  c.tile_rows = std::min(c.rows, std::max(kLeastRows, ceil_div(c.rows, wanted)));
  const int64_t slots = c.depthwise.weight ? kKernel : 1;
  const int64_t pixels = slots * source_columns(c, c.tile_columns) + c.tile_columns;
  const int64_t panel_bytes = 4 * kPanel * (pixels + c.inputs + c.outputs);
  const int64_t chunks = c.last.weight ? 1 : ceil_div(all * panel_bytes, kChunkBytes);
  c.chunk = ceil_div(all, std::min(chunks, all));
  if (c.chunk == all) return;  // else the sums of all chunks so far are in the workspace too
  const int64_t most_rows = kSumsBytes / (4 * kPanel * panels(c.outputs) * c.tile_columns);
  if (c.tile_rows > most_rows)
    c.tile_rows = std::max(kLeastRows, ceil_div(c.rows, ceil_div(c.rows, std::max<int64_t>(most_rows, 1))));
  c.tile_rows = std::min(c.tile_rows, c.rows);
}

Tensor conv_chain_cpu(const Tensor& input, const std::optional<Tensor>& expand, const std::optional<Tensor>& depthwise,
                      const Tensor& project, const std::optional<Tensor>& last, const std::optional<Tensor>& other,
                      int64_t outputs, int64_t stride, std::vector<int64_t> padding, std::vector<double> limits) {
  const Sizes sizes = check_chain(input, expand, depthwise, project, last, other, outputs, stride, padding, limits);
  const Tensor out = empty_result(input, input.size(0), outputs, sizes.rows, sizes.columns, true);
  if (out.numel() == 0) return out;
  const Tensor from = nhwc(input);
  const Tensor added = other ? nhwc(*other) : from;
  const auto pointwise = [&](const std::optional<Tensor>& weight, int64_t inputs, int64_t to, int stage) {
    return Pointwise{weight ? data<float>(*weight) : nullptr, inputs, to, float(limits[size_t(2 * stage)]),
                     float(limits[size_t(2 * stage) + 1])};
  };
  Chain chain{.expand = pointwise(expand, input.size(1), sizes.middle, 0),
              .depthwise = {.weight = depthwise ? data<float>(*depthwise) : nullptr,
                            .stride = stride,
                            .top = padding[0],
                            .left = padding[1],
                            .low = float(limits[2]),
                            .high = float(limits[3])},
              .project = pointwise(project, sizes.middle, sizes.hidden, 2),
              .last = pointwise(last, sizes.hidden, outputs, 3),
              .height = input.size(2),
              .width = input.size(3),
              .inputs = input.size(1),
              .rows = sizes.rows,
              .columns = sizes.columns,
              .outputs = outputs,
              .tile_rows = 0,
              .tile_columns = 0,
              .chunk = 0,
              .input = data<float>(from),
              .other = other ? data<float>(added) : nullptr,
              .output = mutable_data<float>(out)};
  int64_t images = input.size(0);
  if (!depthwise) {
    chain.width = chain.columns = images * chain.height * chain.width;
    chain.height = chain.rows = images = 1;
  }
  const int64_t pixels = images * chain.rows * chain.columns;
  const int64_t seen = expand ? images * chain.height * chain.width * chain.inputs : 0;
  const int64_t multiplications =
      seen * sizes.middle + pixels * (sizes.middle * sizes.hidden + (last ? sizes.hidden * outputs : 0));
  const int64_t threads =
      std::max<int64_t>(1, std::min<int64_t>(torch::stable::get_num_threads(), multiplications / kWorthAThread));
  plan(chain, images, threads);
  const int64_t down = ceil_div(chain.rows, chain.tile_rows), across = ceil_div(chain.columns, chain.tile_columns);
  const int64_t tasks = images * down * across;
  const auto kernel = PYRCNN_KERNEL(convolve);
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t, int64_t) {  // takes tasks until there are none, however many threads do
    const auto scratch = workspace<float>(workspace_of(chain).floats);
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      const int64_t row = i / across % down * chain.tile_rows, column = i % across * chain.tile_columns;
      kernel(chain,
             {i / across / down, row, column, std::min(chain.tile_rows, chain.rows - row),
              std::min(chain.tile_columns, chain.columns - column)},
             scratch.get());
    }
  };
  if (threads == 1 || tasks == 1) work(0, 1);
  else torch::stable::parallel_for(0, std::min(threads, tasks), 1, work);
  return out;
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_conv_chain", TORCH_BOX(&conv_chain_cpu)); }
}  // namespace pyrcnn::conv_chain
