// Spreading work over torch's threads. Uses std, so it is for *_cpu.cpp.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <new>
#include <thread>

namespace pyrcnn {

constexpr double kWorthAThread = 20e3;  // nanoseconds of work that pay for waking a thread

// How many threads to use for `count` tasks that together take `cost` nanoseconds.
inline int64_t threads_for(int64_t count, double cost) {
  return cost < 2 * kWorthAThread ? 1 : std::min<int64_t>(count, torch::stable::get_num_threads());
}

// Calls body() once in each of `threads` threads. Fewer calls happen where torch has fewer threads, or inside another
// parallel region, so body() must not count on the others. Of exceptions, torch would lose the type.
template <typename F> void on_threads(int64_t threads, const F& body) {
  if (threads < 2) return body();
  std::atomic<bool> no_memory{false};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    try {
      body();
    } catch (const std::bad_alloc&) { no_memory = true; }
  });
  if (no_memory) throw std::bad_alloc();
}

// Numbered tasks that threads take one at a time, so that a thread that is held up leaves more to the others. All
// threads pass the same count.
class TaskQueue {
  static constexpr int kSpins = 2000;  // tens of microseconds; after that a waiting thread lets others run
  std::atomic<int64_t> next_{0}, done_{0};

 public:
  // Calls task(i) for every i in [0, count) that no other thread has taken. Returns how many this thread did.
  template <typename F> int64_t run(int64_t count, const F& task) {
    int64_t mine = 0;
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count; ++mine) task(i);
    return mine;
  }

  bool all_taken(int64_t count) const { return next_.load(std::memory_order_relaxed) >= count; }

  // No thread takes another task.
  void stop() { next_.store(std::numeric_limits<int64_t>::max() / 2, std::memory_order_relaxed); }

  // Reports `tasks` as done to the threads in wait(). Only a queue that is waited for needs this.
  void finish(int64_t tasks) { done_.fetch_add(tasks, std::memory_order_acq_rel); }

  // Returns once `count` tasks are done or given_up() is true. Tasks that no thread has taken would never end this.
  template <typename F> void wait(int64_t count, const F& given_up) const {
    for (int spins = 0; done_.load(std::memory_order_acquire) < count && !given_up(); ++spins) {
      if (spins >= kSpins) std::this_thread::yield();
#if defined(__x86_64__)
      else __builtin_ia32_pause();
#endif
    }
  }
};

// Calls task(i) for every i in [0, count): for tasks of unequal length. `cost` is the estimated nanoseconds of all.
template <typename F> void parallel_tasks(int64_t count, double cost, const F& task) {
  TaskQueue queue;
  on_threads(threads_for(count, cost), [&] { queue.run(count, task); });
}

// Calls body(begin, end) for parts of [0, count). `cost` is the estimated nanoseconds of one step. Work of less than
// two times kWorthAThread runs inline. Each thread gets several parts, so that a busy core does fewer of them.
template <typename F> void parallel(int64_t count, double cost, const F& body) {
  constexpr int64_t kPartsOfAThread = 4;
  if (count <= 0) return;
  const double all = double(count) * cost;
  const int64_t threads = threads_for(count, all);
  if (threads == 1) return body(int64_t{0}, count);
  const int64_t parts = std::min({count, int64_t(all / kWorthAThread), threads * kPartsOfAThread});
  parallel_tasks(parts, all, [&](int64_t i) { body(count * i / parts, count * (i + 1) / parts); });
}

}  // namespace pyrcnn
