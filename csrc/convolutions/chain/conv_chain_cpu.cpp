#include <algorithm>

#include "common/cpu/memory.h"
#include "common/cpu/parallel.h"
#include "common/cpu/results.h"
#include "conv_chain_check.h"
#include "conv_chain_kernel.h"

namespace pyrcnn::conv_chain {
namespace {

constexpr int64_t kMostColumns = 64;               // of a task with a depthwise convolution
constexpr int64_t kMostPixels = 128;               // of a task without one
constexpr int64_t kLeastRows = 4;                  // of a task, because the rows above and below it are expanded twice
constexpr int64_t kEnoughRows = 16;                // those two rows are then an eighth more work
constexpr int64_t kTasksPerThread = 4;             // so that a thread that is held up leaves work to the others
constexpr double kMultiplicationsPerThread = 4e6;  // 0.1 ms, as much as waking a thread may take
constexpr int64_t kChunkBytes = 256 << 10;         // of a workspace and its weights: half a 512 KiB cache
constexpr int64_t kSumsBytes = 256 << 10;          // of the sums beside it
constexpr uintptr_t kCacheLine = 64;  // packs that cross into the next cache line take twice as long to load

// Sets the panels that are in the workspace at a time. If there are several chunks, the sums of a task must fit too.
void plan_chunks(Chain& c) {
  constexpr int64_t panel_bytes = sizeof(float) * kPanel;
  const int64_t all = panels(expanded_channels(c));
  const int64_t pixels = ring_rows(c) * source_columns(c, c.task_columns) + c.task_columns;
  const int64_t bytes = all * panel_bytes * (pixels + c.expand.inputs + c.outputs);
  const int64_t chunks = c.last.weight ? 1 : ceil_div(bytes, kChunkBytes);
  c.chunk = ceil_div(all, std::min(chunks, all));
  if (c.chunk == all) return;
  const int64_t most_rows = kSumsBytes / (panel_bytes * panels(c.outputs) * c.task_columns);
  if (c.task_rows > most_rows)
    c.task_rows = std::max(kLeastRows, ceil_div(c.rows, ceil_div(c.rows, std::max<int64_t>(most_rows, 1))));
  c.task_rows = std::min(c.task_rows, c.rows);
}

// Sets how the result is cut into tasks. The order in which a result's products are added depends on the sizes alone,
// not on the number of threads.
void plan_tasks(Chain& c, int64_t images, int64_t threads) {
  const int64_t most = c.depthwise.weight ? kMostColumns : kMostPixels;
  c.task_columns = ceil_div(c.columns, ceil_div(c.columns, most));
  const int64_t across = ceil_div(c.columns, c.task_columns) * images;
  const int64_t wanted = threads == 1 ? 1 : ceil_div(kTasksPerThread * threads, across);
  const int64_t enough = std::min(kEnoughRows, ceil_div(c.rows * across, threads));  // before more and smaller tasks
  c.task_rows = std::min(c.rows, std::max({kLeastRows, enough, ceil_div(c.rows, wanted)}));
  plan_chunks(c);
}

// A chain, its tasks, and the jobs whose results it reads.
struct Job {
  Chain chain;
  int64_t images, down, across, tasks;
  double multiplications;
  std::vector<size_t> after;
  TaskQueue queue;
};

// What every thread does: tasks of one job after the other until none are left. A job waits only for earlier jobs,
// whose tasks have all been taken, so any number of threads finishes.
void run_jobs(std::vector<Job>& jobs) {
  const auto kernel = PYRCNN_KERNEL(convolve);
  int64_t floats = 0;
  for (const Job& job : jobs)
    if (job.tasks > 0) floats = std::max(floats, workspace_of(job.chain).floats);
  const auto memory = workspace<float>(floats + kPanel);
  float* scratch = memory.get() + (-reinterpret_cast<uintptr_t>(memory.get()) % kCacheLine) / sizeof(float);
  for (Job& job : jobs) {
    const Chain& c = job.chain;
    if (job.queue.all_taken(job.tasks)) continue;
    for (size_t before : job.after) jobs[before].queue.wait(jobs[before].tasks, [] { return false; });
    const int64_t mine = job.queue.run(job.tasks, [&](int64_t i) {
      const int64_t row = i / job.across % job.down * c.task_rows, column = i % job.across * c.task_columns;
      kernel(c,
             {i / job.across / job.down, row, column, std::min(c.task_rows, c.rows - row),
              std::min(c.task_columns, c.columns - column)},
             scratch);
    });
    job.queue.finish(mine);
  }
}

// The maps, first the inputs and then the results: as [N, C, H, W] and, where chains read them so, as [N, H, W, C].
struct Maps {
  std::vector<Tensor> all;
  std::vector<std::optional<Tensor>> channels_last;

  explicit Maps(const std::vector<Tensor>& inputs) : all(inputs), channels_last(inputs.size()) {}
  void add(const Tensor& result) {
    all.push_back(result);
    channels_last.emplace_back(nhwc(result));
  }
  const float* pixels(size_t map) {
    if (!channels_last[map]) channels_last[map] = nhwc(all[map]);
    return data<float>(*channels_last[map]);
  }
};

// Sets all of `job` but its tasks.
void describe_job(Job& job, const Arguments& a, Maps& maps, const Tensor& out, const Sizes& sizes,
                  const double* limits) {
  const Tensor& input = maps.all[a.input];
  const auto pointwise = [&](const Tensor* weight, int64_t outputs, int stage) {
    return Pointwise{weight ? data<float>(*weight) : nullptr, weight ? weight->size(1) - 1 : 0, outputs,
                     float(limits[2 * stage]), float(limits[2 * stage + 1])};
  };
  job.images = input.size(0);
  Chain& c = job.chain;
  c = {.expand = pointwise(a.expand, a.expanded, 0),
       .expand3x3 = {.stride = a.window_stride,
                     .top = a.window_padding[0],
                     .left = a.window_padding[1],
                     .height = input.size(2),
                     .width = input.size(3),
                     .image_step = input.stride(0),
                     .channel_step = input.stride(1),
                     .row_step = input.stride(2),
                     .column_step = input.stride(3)},
       .depthwise = {.weight = a.depthwise ? data<float>(*a.depthwise) : nullptr,
                     .stride = a.stride,
                     .top = a.padding[0],
                     .left = a.padding[1],
                     .low = float(limits[2]),
                     .high = float(limits[3])},
       .project = pointwise(a.project, a.hidden, 2),
       .last = pointwise(a.last, a.outputs, 3),
       .height = sizes.height,
       .width = sizes.width,
       .inputs = input.size(1),
       .rows = sizes.rows,
       .columns = sizes.columns,
       .outputs = a.outputs,
       .task_rows = 0,
       .task_columns = 0,
       .chunk = 0,
       .input = a.window_stride ? data<float>(input) : maps.pixels(a.input),
       .other = a.other < 0 ? nullptr : maps.pixels(size_t(a.other)),
       .up = a.up,
       .output = mutable_data<float>(out)};
  if (!a.depthwise && a.up == 1) {  // pixels are independent, so all of them are one row
    c.width = c.columns = job.images * c.height * c.width;
    c.height = c.rows = job.images = 1;
  }
  const double seen = a.expand ? double(job.images * c.height * c.width) * double(c.expand.inputs) : 0;
  const double each = double(a.expanded * a.hidden) + double(a.last ? a.hidden * a.outputs : 0);
  job.multiplications = seen * double(a.expanded) + double(job.images * c.rows * c.columns) * each;
}

std::vector<Tensor> conv_chains_cpu(std::vector<Tensor> inputs, std::vector<Tensor> weights,
                                    std::vector<int64_t> numbers, std::vector<double> limits) {
  const std::vector<Arguments> chains = read_arguments(inputs, weights, numbers, limits);
  const size_t given = inputs.size();
  if (!inputs.empty()) check_tensors("inputs[0]", inputs[0], "inputs", inputs, "weights", weights);
  for (const Tensor& input : inputs) check(input.dim() == 4, "inputs must be [N, C, H, W], got ", shape(input));
  Maps maps(inputs);
  std::vector<Job> jobs(chains.size());
  double multiplications = 0;
  for (size_t i = 0; i < chains.size(); ++i) {
    const Arguments& a = chains[i];
    const Tensor& input = maps.all[a.input];
    const Sizes sizes = check_chain(a, input, a.other < 0 ? nullptr : &maps.all[size_t(a.other)]);
    const Tensor out = empty_result("chains", input, input.size(0), a.outputs, sizes.rows, sizes.columns, true);
    describe_job(jobs[i], a, maps, out, sizes, &limits[kLimits * i]);
    for (size_t source : {a.input, a.other < 0 ? a.input : size_t(a.other)})
      if (source >= given) jobs[i].after.push_back(source - given);
    maps.add(out);
    multiplications += jobs[i].multiplications;
  }
  const int64_t threads = std::clamp<int64_t>(int64_t(std::min(multiplications / kMultiplicationsPerThread, 1e6)), 1,
                                              torch::stable::get_num_threads());
  for (Job& job : jobs) {
    const bool empty = job.images * job.chain.rows * job.chain.columns == 0;
    if (!empty) plan_tasks(job.chain, job.images, threads);
    job.down = empty ? 0 : ceil_div(job.chain.rows, job.chain.task_rows);
    job.across = empty ? 0 : ceil_div(job.chain.columns, job.chain.task_columns);
    job.tasks = job.images * job.down * job.across;
  }
  on_threads(threads, [&] { run_jobs(jobs); });
  return {maps.all.begin() + int64_t(given), maps.all.end()};
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_conv_chains", PYRCNN_BOX(&conv_chains_cpu)); }
}  // namespace pyrcnn::conv_chain
