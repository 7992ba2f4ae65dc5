// Threads that go through the same steps together: woken once for all steps, not once for each. Uses std, so it is for
// *_cpu.cpp.
#pragma once
#include <thread>

#include "cpu.h"

namespace pyrcnn {

class Team {
  static constexpr int kSteps = 8, kSpins = 2000;  // spins: tens of microseconds, then others may run
  struct Step {
    std::atomic<int64_t> next{0}, done{0};
  };
  Step steps_[kSteps];
  std::atomic<bool> failed_{false};

 public:
  // What one thread holds. All of them call share() as often, with the same counts.
  class Member {
    Team& team_;
    int at_ = 0;

   public:
    explicit Member(Team& team) : team_(team) {}

    // task(i) for every i in [0, count), each when a member comes for it, then end() if this one did any. Returns when
    // all are done. Members wait for tasks that others have begun, never for others to come: where threads are late, or
    // there is only one, nothing is held up. Once a task has thrown the rest is left out.
    template <typename Task, typename End> void share(int64_t count, const Task& task, const End& end) {
      Step& step = team_.steps_[at_++];
      int64_t mine = 0;
      try {
        for (int64_t i; !team_.failed_ && (i = step.next.fetch_add(1, std::memory_order_relaxed)) < count; ++mine)
          task(i);
        if (mine > 0) end();
      } catch (...) {
        team_.failed_ = true;
        throw;
      }
      step.done.fetch_add(mine, std::memory_order_acq_rel);
      for (int spins = 0; step.done.load(std::memory_order_acquire) < count && !team_.failed_; ++spins) {
        if (spins >= kSpins) std::this_thread::yield();
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
      }
    }
    template <typename Task> void share(int64_t count, const Task& task) {
      share(count, task, [] {});
    }
    bool failed() const { return team_.failed_; }
  };

  // body(member) by as many threads as there are, if `cost`, the estimated nanoseconds of all steps, is worth a second.
  template <typename F> static void run(double cost, const F& body) {
    Team team;
    const auto take_part = [&](int64_t, int64_t) {
      Member member(team);
      body(member);
    };
    const int64_t threads = torch::stable::get_num_threads();
    if (threads < 2 || cost < 2 * kWorthAThread) take_part(0, 1);
    else torch::stable::parallel_for(0, threads, 1, take_part);
  }
};

}  // namespace pyrcnn
