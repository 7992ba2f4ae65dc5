// Runs a kernel's grid on one core: block after block, the threads of a block as fibers that run until they wait for
// each other. The order in which they run is $PYRCNN_EMULATION_ORDER: forward, backward, or a seed of random orders; a
// kernel whose result depends on it lacks a barrier. Aborts where CUDA would hang, fail to launch or do anything at
// all.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
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

// The rounds in which a warp or a block meets. What came in the last round stays readable during the next: all have
// read it when the next is complete.
struct Meeting {
  unsigned members = 0, arrived = 0, left = 0;
  uint64_t round = 0;
  Place place;
  uint64_t values[2][kMostThreads];

  void reset(unsigned count) { members = count, arrived = left = 0; }
  void complete() {
    if (arrived > 0 && arrived + left == members) arrived = 0, ++round;
  }
};

struct Fiber {
  std::unique_ptr<char[]> stack{new char[kStack]};
  jmp_buf at;
  bool started, done;
  const Meeting* waiting;
  uint64_t round;
  bool runnable() const { return !done && (waiting == nullptr || waiting->round != round); }
};

std::vector<Fiber> fibers;
std::vector<Meeting> warps(kMostThreads / kWarpSize);
Meeting block_meeting;
jmp_buf scheduler;
Fiber* current;
const std::function<void()>* body;

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

struct Order {
  std::vector<unsigned> threads;
  std::mt19937 random;
  bool shuffled = false;
  explicit Order(unsigned count) : threads(count) {
    const char* wish = std::getenv("PYRCNN_EMULATION_ORDER");
    const std::string order = wish ? wish : "forward";
    std::iota(threads.begin(), threads.end(), 0u);
    if (order == "backward") std::reverse(threads.begin(), threads.end());
    else if (order != "forward") shuffled = true, random.seed(unsigned(std::atoi(wish)));
  }
  const std::vector<unsigned>& next() {
    if (shuffled) std::shuffle(threads.begin(), threads.end(), random);
    return threads;
  }
};

void run_block(Order& order, unsigned threads) {
  block_meeting.reset(threads);
  for (unsigned w = 0; w < warps.size(); ++w)
    warps[w].reset(std::min(kWarpSize, threads - std::min(threads, w * kWarpSize)));
  for (unsigned i = 0; i < threads; ++i) fibers[i].started = fibers[i].done = false, fibers[i].waiting = nullptr;
  for (unsigned done = 0; done < threads;) {
    bool any = false;
    for (unsigned i : order.next()) {
      if (!fibers[i].runnable()) continue;
      any = true;
      resume(i);
      done += fibers[i].done;
    }
    if (!any) fail("a barrier that not all threads come to", block_meeting.place);
  }
}

}  // namespace

const uint64_t* meet(Group group, uint64_t value, Place place) {
  const bool whole = group == Group::kBlock;
  Meeting& meeting = whole ? block_meeting : warps[threadIdx.x / kWarpSize];
  if (!whole && meeting.left > 0) fail("a warp meets without a lane that has left", place);
  if (meeting.arrived == 0) meeting.place = place;
  if (meeting.place.line() != place.line() || meeting.place.file_name() != place.file_name())
    fail("threads meet in different places", place);
  const uint64_t round = meeting.round;
  meeting.values[round % 2][whole ? threadIdx.x : threadIdx.x % kWarpSize] = value;
  ++meeting.arrived;
  meeting.complete();
  if (meeting.round == round) {
    current->waiting = &meeting, current->round = round;
    if (_setjmp(current->at) == 0) _longjmp(scheduler, 1);
    current->waiting = nullptr;
  }
  return meeting.values[round % 2];
}

void run(dim3 grid, dim3 block, size_t argument_bytes, const std::function<void()>& thread) {
  const unsigned threads = block.x;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
    fail("a grid of no size or beyond the limits");
  if (threads == 0 || threads > kMostThreads || block.y != 1 || block.z != 1) fail("a block beyond the limits");
  if (argument_bytes > 4096) fail("more than 4096 bytes of arguments");
  if (fibers.size() < threads) fibers = std::vector<Fiber>(threads);
  gridDim = grid, blockDim = block, body = &thread;
  Order order(threads);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) blockIdx = dim3(x, y, z), run_block(order, threads);
}

}  // namespace emulation
