#include <algorithm>
#include <atomic>
#include <thread>

#include "conv_chain_check.h"
#include "conv_chain_kernel.h"

namespace pyrcnn::conv_chain {
namespace {

constexpr int64_t kColumns = 64;        // of a tile behind a depthwise convolution, at most
constexpr int64_t kPixels = 128;        // of a tile without one, at most
constexpr int64_t kLeastRows = 4;       // of a tile: around it a row on either side is expanded, too,
constexpr int64_t kEnoughRows = 16;     // which is an eighth more here
constexpr int64_t kTasksPerThread = 4;  // so that a thread that is held up leaves work to the others
// Multiplications: 0.1 ms, what waking one may take.
template <typename T> constexpr int64_t kWorthAThread = kInTiles<T> ? 16'000'000 : 4'000'000;
constexpr int kSpins = 2000;                // tens of microseconds: then a waiting thread lets others run
constexpr int64_t kChunkBytes = 256 << 10;  // of a workspace and its weights: half of a cache of 512 KiB
constexpr int64_t kSumsBytes = 256 << 10;   // of the sums beside it
constexpr uintptr_t kLine = 64;             // of the cache: packs that cross into the next take twice as long to load

// The panels that are in the workspace at a time, and how many rows' sums then are.
void plan_chunks(Chain<float>& c) {
  constexpr int64_t panel = kPanel<float>, line = sizeof(float) * panel;
  const int64_t all = panels<float>(middle(c));
  const int64_t pixels = slots(c) * source_columns(c, c.tile_columns) + c.tile_columns;
  const int64_t panel_bytes = line * (pixels + c.expand.inputs + c.outputs);
  const int64_t chunks = c.last.weight ? 1 : ceil_div(all * panel_bytes, kChunkBytes);
  c.chunk = ceil_div(all, std::min(chunks, all));
  if (c.chunk == all) return;  // else the sums of all chunks so far are in the workspace too
  const int64_t most_rows = kSumsBytes / (line * panels<float>(c.outputs) * c.tile_columns);
  if (c.tile_rows > most_rows)
    c.tile_rows = std::max(kLeastRows, ceil_div(c.rows, ceil_div(c.rows, std::max<int64_t>(most_rows, 1))));
  c.tile_rows = std::min(c.tile_rows, c.rows);
}

// How the result is cut: see Chain. What a result is the sum of, and in which order, depends on the sizes alone.
template <typename T> void plan(Chain<T>& c, int64_t images, int64_t threads) {
  const int64_t all = panels<T>(middle(c));
  const int64_t most = c.depthwise.weight ? kColumns : kPixels;
  c.tile_columns = ceil_div(c.columns, ceil_div(c.columns, most));
  const int64_t across = ceil_div(c.columns, c.tile_columns) * images;
  const int64_t wanted = threads == 1 ? 1 : ceil_div(kTasksPerThread * threads, across);
  const int64_t enough = std::min(kEnoughRows, ceil_div(c.rows * across, threads));  // rather than fewer and more tasks
  c.tile_rows = std::min(c.rows, std::max({kLeastRows, enough, ceil_div(c.rows, wanted)}));
  c.chunk = all;
  if constexpr (!kInTiles<T>) plan_chunks(c);  // machines with tiles have second caches of 2 MiB
}

// A chain, how it is cut, and how far it is.
template <typename T> struct Job {
  Chain<T> chain;
  int64_t images, down, across, tasks;
  int64_t multiplications;
  std::vector<size_t> after;  // the jobs whose results it reads
  std::atomic<int64_t> next{0}, done{0};

  bool finished() const { return done.load(std::memory_order_acquire) == tasks; }
  void wait() const {
    for (int spins = 0; !finished(); ++spins) {
      if (spins >= kSpins) std::this_thread::yield();
#if defined(__x86_64__)
      else __builtin_ia32_pause();
#endif
    }
  }
};

// Does tasks until there are none, however many threads do: of one job after the other, so that all of them may wait.
template <typename T> void work(std::vector<Job<T>>& jobs) {
  const auto kernel = PYRCNN_KERNEL(convolve<T>);
  int64_t values = 0;
  for (const Job<T>& job : jobs)
    if (job.tasks > 0) values = std::max(values, workspace_of(job.chain).values);
  const auto memory = workspace<T>(values + kPanel<T>);
  T* scratch = memory.get() + (-reinterpret_cast<uintptr_t>(memory.get()) % kLine) / sizeof(T);
  for (Job<T>& job : jobs) {
    const Chain<T>& c = job.chain;
    if (job.next.load(std::memory_order_relaxed) >= job.tasks) continue;
    for (size_t before : job.after) jobs[before].wait();
    for (int64_t i; (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.tasks;) {
      const int64_t row = i / job.across % job.down * c.tile_rows, column = i % job.across * c.tile_columns;
      kernel(c,
             {i / job.across / job.down, row, column, std::min(c.tile_rows, c.rows - row),
              std::min(c.tile_columns, c.columns - column)},
             scratch);
      job.done.fetch_add(1, std::memory_order_release);
    }
  }
}

// The maps: what was given, then the results, as [N, C, H, W] and, where they are read so, as [N, H, W, C].
template <typename T> struct Maps {
  std::vector<Tensor> all;
  std::vector<std::optional<Tensor>> memory;

  explicit Maps(const std::vector<Tensor>& inputs) : all(inputs), memory(inputs.size()) {}
  void add(const Tensor& result) {
    all.push_back(result);
    memory.emplace_back(nhwc(result));
  }
  const T* pixels(size_t map) {
    if (!memory[map]) memory[map] = nhwc(all[map]);
    return data<T>(*memory[map]);
  }
};

// The job without its cut.
template <typename T>
void prepare(Job<T>& job, const Arguments& a, Maps<T>& maps, const Tensor& out, const Sizes& sizes,
             const double* limits) {
  const Tensor& input = maps.all[a.input];
  const auto pointwise = [&](const Tensor* weight, int64_t outputs, int stage) {
    return Pointwise<T>{weight ? data<T>(*weight) : nullptr, weight ? weight->size(1) - kBiasRows<T> : 0, outputs,
                        float(limits[2 * stage]), float(limits[2 * stage + 1])};
  };
  job.images = input.size(0);
  Chain<T>& c = job.chain;
  c = {.expand = pointwise(a.expand, a.middle, 0),
       .window = {.stride = a.window_stride,
                  .top = a.window_padding[0],
                  .left = a.window_padding[1],
                  .height = input.size(2),
                  .width = input.size(3),
                  .step_image = input.stride(0),
                  .step_channel = input.stride(1),
                  .step_row = input.stride(2),
                  .step_column = input.stride(3)},
       .depthwise = {.weight = a.depthwise ? data<T>(*a.depthwise) : nullptr,
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
       .tile_rows = 0,
       .tile_columns = 0,
       .chunk = 0,
       .input = a.window_stride ? data<T>(input) : maps.pixels(a.input),
       .other = a.other < 0 ? nullptr : maps.pixels(size_t(a.other)),
       .up = a.up,
       .output = mutable_data<T>(out),
       .tiles = cpu_tiles()};
  if (!a.depthwise && a.up == 1) {
    c.width = c.columns = job.images * c.height * c.width;
    c.height = c.rows = job.images = 1;
  }
  const int64_t seen = a.expand ? job.images * c.height * c.width * c.expand.inputs : 0;
  const int64_t each = a.middle * a.hidden + (a.last ? a.hidden * a.outputs : 0);
  job.multiplications = seen * a.middle + job.images * c.rows * c.columns * each;
}

// The results of all chains.
template <typename T>
std::vector<Tensor> conv_chains(const std::vector<Tensor>& inputs, const std::vector<Arguments>& chains,
                                const std::vector<double>& limits) {
  const size_t given = inputs.size();
  for (const Tensor& input : inputs) check(input.dim() == 4, "inputs must be [N, C, H, W], got ", shape(input));
  Maps<T> maps(inputs);
  std::vector<Job<T>> jobs(chains.size());
  int64_t multiplications = 0;
  for (size_t i = 0; i < chains.size(); ++i) {
    const Arguments& a = chains[i];
    const Tensor& input = maps.all[a.input];
    const Sizes sizes = check_chain<T>(a, input, a.other < 0 ? nullptr : &maps.all[size_t(a.other)]);
    const Tensor out = empty_result(input, input.size(0), a.outputs, sizes.rows, sizes.columns, true);
    prepare(jobs[i], a, maps, out, sizes, &limits[kLimits * i]);
    for (size_t source : {a.input, a.other < 0 ? a.input : size_t(a.other)})
      if (source >= given) jobs[i].after.push_back(source - given);
    maps.add(out);
    multiplications += jobs[i].multiplications;
  }
  const int64_t threads = std::clamp<int64_t>(multiplications / kWorthAThread<T>, 1, torch::stable::get_num_threads());
  for (Job<T>& job : jobs) {
    const bool empty = job.images * job.chain.rows * job.chain.columns == 0;
    if (!empty) plan(job.chain, job.images, threads);
    job.down = empty ? 0 : ceil_div(job.chain.rows, job.chain.tile_rows);
    job.across = empty ? 0 : ceil_div(job.chain.columns, job.chain.tile_columns);
    job.tasks = job.images * job.down * job.across;
  }
  if (threads == 1) work(jobs);
  else torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) { work(jobs); });
  return {maps.all.begin() + int64_t(given), maps.all.end()};
}

std::vector<Tensor> conv_chains_cpu(std::vector<Tensor> inputs, std::vector<Tensor> weights,
                                    std::vector<int64_t> numbers, std::vector<double> limits) {
  const std::vector<Arguments> chains = arguments(inputs, weights, numbers, limits);
  if (!inputs.empty() && is_type<BFloat16>(inputs[0])) return conv_chains<BFloat16>(inputs, chains, limits);
  return conv_chains<float>(inputs, chains, limits);
}

}  // namespace
STABLE_TORCH_LIBRARY_IMPL(pyrcnn, CPU, m) { m.impl("_conv_chains", TORCH_BOX(&conv_chains_cpu)); }
}  // namespace pyrcnn::conv_chain
