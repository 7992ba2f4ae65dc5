// Runs a kernel's grid on one core, the threads of a block as fibers that run until they wait for each other: block
// after block, or, where a grid has a barrier of its own, each block in a host thread, one of which runs at a time. The
// order of threads and of blocks is $PYRCNN_EMULATION_ORDER: forward, backward, or a seed of random orders, where
// blocks also take turns between barriers; a kernel whose result depends on it lacks a barrier. Aborts where CUDA would
// hang, fail to launch or do anything at all.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

namespace emulation {
namespace {

constexpr size_t kStack = 128 << 10;
constexpr unsigned kWarpSize = 32, kMostThreads = 1024;

[[noreturn]] void fail(const char* what, const Place& place = {}) {
  std::fprintf(stderr, "emulated CUDA: %s (%s:%u, block %u %u, thread %u)\n", what, place.file_name(), place.line(),
               blockIdx.x, blockIdx.y, threadIdx.x);
  std::abort();
}

// The rounds in which a warp, a block or a grid meets. What came in the last round stays readable during the next: all
// have read it when the next is complete.
struct Meeting {
  unsigned members = 0, arrived = 0, left = 0;
  uint64_t round = 0;
  Place place;

  void reset(unsigned count) { members = count, arrived = left = 0; }
  void arrive(const Place& here) {
    if (arrived == 0) place = here;
    if (place.line() != here.line() || place.file_name() != here.file_name())
      fail("threads meet in different places", here);
    ++arrived;
    complete();
  }
  void complete() {
    if (arrived > 0 && arrived + left == members) arrived = 0, ++round;
  }
};
template <unsigned most> struct Exchange : Meeting {
  uint64_t values[2][most];
};

struct Fiber {
  std::unique_ptr<char[]> stack{new char[kStack]};
  jmp_buf at;
  bool started, done;
  const Meeting* waiting;
  uint64_t round;
  bool runnable() const { return !done && (waiting == nullptr || waiting->round != round); }
};

// The state of the one block that a host thread runs.
thread_local std::vector<Fiber> fibers;
thread_local std::vector<Exchange<kWarpSize>> warps(kMostThreads / kWarpSize);
thread_local Exchange<kMostThreads> block_meeting;
thread_local jmp_buf scheduler;
thread_local Fiber* current;
thread_local const std::function<void()>* body;
// Of the grid.
Meeting grid_meeting;  // of blocks

void leave() {
  Meeting& warp = warps[threadIdx.x / kWarpSize];
  ++warp.left, ++block_meeting.left;
  if (warp.arrived > 0) fail("a warp meets without a lane that has left", warp.place);
  block_meeting.complete();  // a barrier does not wait for threads that have returned
}

void first_step() {
  (*body)();
  leave();
  current->done = true;
  _longjmp(scheduler, 1);
}

void resume(unsigned thread) {
  current = &fibers[thread];
  threadIdx = dim3(thread, 0, 0);
  if (_setjmp(scheduler)) return;
  if (current->started) _longjmp(current->at, 1);
  current->started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = current->stack.get(), context.uc_stack.ss_size = kStack, context.uc_link = nullptr;
  makecontext(&context, first_step, 0);
  setcontext(&context);
}

void wait_for(const Meeting& meeting, uint64_t round) {
  if (meeting.round != round) return;
  current->waiting = &meeting, current->round = round;
  if (_setjmp(current->at) == 0) _longjmp(scheduler, 1);
  current->waiting = nullptr;
}

std::string wish() {
  const char* set = std::getenv("PYRCNN_EMULATION_ORDER");
  return set ? set : "forward";
}

struct Order {
  std::vector<unsigned> items;
  std::mt19937 random;
  bool shuffled = false;
  Order(unsigned count, unsigned salt) : items(count) {
    const std::string order = wish();
    std::iota(items.begin(), items.end(), 0u);
    if (order == "backward") std::reverse(items.begin(), items.end());
    else if (order != "forward") shuffled = true, random.seed(unsigned(std::atoi(order.c_str())) + salt);
  }
  const std::vector<unsigned>& next() {
    if (shuffled) std::shuffle(items.begin(), items.end(), random);
    return items;
  }
};

// `pause` lets other blocks of the grid run.
void run_block(Order& order, unsigned threads, const std::function<void(bool waits)>& pause) {
  if (fibers.size() < threads) fibers = std::vector<Fiber>(threads);
  block_meeting.reset(threads);
  for (unsigned w = 0; w < warps.size(); ++w)
    warps[w].reset(std::min(kWarpSize, threads - std::min(threads, w * kWarpSize)));
  for (unsigned i = 0; i < threads; ++i) fibers[i].started = fibers[i].done = false, fibers[i].waiting = nullptr;
  for (unsigned done = 0; done < threads;) {
    bool any = false, waits = false;
    for (unsigned i : order.next()) {
      waits = waits || (!fibers[i].done && fibers[i].waiting == &grid_meeting);
      if (!fibers[i].runnable()) continue;
      any = true;
      resume(i);
      done += fibers[i].done;
    }
    if (!any && !waits) fail("a barrier that not all threads come to", block_meeting.place);
    if (!any || order.shuffled) pause(!any);
  }
}

// A host thread that runs one block at a time, when it is told to.
struct Worker {
  std::binary_semaphore go{0}, back{0};
  std::function<void()> job;
  bool done = true, waits = false;
  std::thread thread{[this] {
    for (;; back.release()) {
      go.acquire();
      job();
      done = true;
    }
  }};

  void step() { go.release(), back.acquire(); }
  void pause(bool for_others) {
    waits = for_others;
    back.release(), go.acquire();
    waits = false;
  }
};
std::vector<Worker*>& workers = *new std::vector<Worker*>;  // they wait for ever

void run_at_once(dim3 grid, dim3 block, const std::function<void()>& thread) {
  const unsigned blocks = grid.x;
  if (grid.y != 1 || grid.z != 1 || blocks > unsigned(most_blocks())) fail("more blocks than fit at the same time");
  while (workers.size() < blocks) workers.push_back(new Worker);
  grid_meeting.reset(blocks);
  for (unsigned b = 0; b < blocks; ++b) {
    Worker& worker = *workers[b];
    worker.done = false;
    worker.job = [=, &worker, &thread] {
      gridDim = grid, blockDim = block, blockIdx = dim3(b, 0, 0), body = &thread;
      Order order(block.x, b);
      run_block(order, block.x, [&](bool waits) { worker.pause(waits); });
    };
  }
  Order order(blocks, 0);
  for (unsigned done = 0; done < blocks;) {
    const uint64_t round = grid_meeting.round;
    bool all_wait = true;
    for (unsigned b : order.next()) {
      Worker& worker = *workers[b];
      if (worker.done) continue;
      worker.step();
      done += worker.done;
      all_wait = all_wait && !worker.done && worker.waits;
    }
    if (done < blocks && all_wait && grid_meeting.round == round)
      fail("a barrier of the grid that not all blocks come to", grid_meeting.place);
  }
}

}  // namespace

int most_blocks() {
  const std::string order = wish();
  return order == "forward" ? 5 : order == "backward" ? 3 : 1 + std::atoi(order.c_str()) % 7;
}

const uint64_t* meet(Group group, uint64_t value, Place place) {
  const bool whole = group == Group::kBlock;
  Exchange<kWarpSize>& warp = warps[threadIdx.x / kWarpSize];
  Meeting& meeting = whole ? static_cast<Meeting&>(block_meeting) : warp;
  if (!whole && meeting.left > 0) fail("a warp meets without a lane that has left", place);
  const uint64_t round = meeting.round;
  (whole ? block_meeting.values[round % 2][threadIdx.x] : warp.values[round % 2][threadIdx.x % kWarpSize]) = value;
  meeting.arrive(place);
  wait_for(meeting, round);
  return whole ? block_meeting.values[round % 2] : warp.values[round % 2];
}

void meet_grid(Place place) {
  const uint64_t round = grid_meeting.round;  // it cannot end before this block has come
  meet(Group::kBlock, 0, place);
  if (block_meeting.left > 0) fail("a grid meets without a thread that has left", place);
  if (threadIdx.x == 0) grid_meeting.arrive(place);
  wait_for(grid_meeting, round);
}

void run(dim3 grid, dim3 block, bool at_once, size_t argument_bytes, const std::function<void()>& thread) {
  const unsigned threads = block.x;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
    fail("a grid of no size or beyond the limits");
  if (threads == 0 || threads > kMostThreads || block.y != 1 || block.z != 1) fail("a block beyond the limits");
  if (argument_bytes > 4096) fail("more than 4096 bytes of arguments");
  if (at_once) return run_at_once(grid, block, thread);
  gridDim = grid, blockDim = block, body = &thread;
  Order order(threads, 0);
  std::vector<unsigned> last = Order(grid.x, 1).next();
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x : last) blockIdx = dim3(x, y, z), run_block(order, threads, [](bool) {});
}

}  // namespace emulation
