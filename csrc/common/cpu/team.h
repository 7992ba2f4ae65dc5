// Threads that go through the same steps together. They are woken once for all steps.
#pragma once
#include "parallel.h"

namespace pyrcnn {

class Team {
  static constexpr int kSteps = 8;
  TaskQueue steps_[kSteps];
  std::atomic<bool> failed_{false};

 public:
  // One thread of the team. Every member must call share() equally often and with the same counts.
  class Member {
    Team& team_;
    int at_ = 0;

   public:
    explicit Member(Team& team) : team_(team) {}

    // Calls task(i) for every i in [0, count) that no other member has taken, then end() if this member did any task.
    // Returns when all tasks are done. A member waits only for tasks that others have begun, so a late thread holds
    // nothing up. After a task has thrown, the remaining tasks are skipped.
    template <typename Task, typename End> void share(int64_t count, const Task& task, const End& end) {
      TaskQueue& step = team_.steps_[at_++];
      int64_t mine = 0;
      try {
        if (!team_.failed_) mine = step.run(count, task);
        if (mine > 0) end();
      } catch (...) {
        team_.failed_ = true;
        step.stop();
        throw;
      }
      step.finish(mine);
      step.wait(count, [&] { return team_.failed_.load(); });
    }
    template <typename Task> void share(int64_t count, const Task& task) {
      share(count, task, [] {});
    }
    bool failed() const { return team_.failed_; }
  };

  // Calls body(member) in every thread of torch's pool, or in this one alone if `cost`, the estimated nanoseconds of
  // all steps, is too little to share.
  template <typename F> static void run(double cost, const F& body) {
    Team team;
    on_threads(threads_for(torch::stable::get_num_threads(), cost), [&] {
      Member member(team);
      body(member);
    });
  }
};

}  // namespace pyrcnn
