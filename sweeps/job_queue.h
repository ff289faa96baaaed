#pragma once
// Jobs that wait for a slot, and those of them that wait for a time as well.

#include <deque>
#include <limits>
#include <vector>

#include "sweeps/job.h"

namespace equisweep {

/// The jobs in the order in which they start: each id once, seeds in the order of their first appearance, else as given.
std::vector<Job> start_order(const std::vector<Job>& jobs);

class JobQueue {
 public:
  void push(const Job* job, double not_before = -std::numeric_limits<double>::infinity()) {
    waiting_.push_back({job, not_before});
  }
  void push_front(const Job* job) { waiting_.push_front({job, -std::numeric_limits<double>::infinity()}); }

  /// The first that may start at `now`; nullptr if there is none.
  const Job* pop(double now) {
    for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
      if (it->not_before > now) continue;
      const Job* job = it->job;
      waiting_.erase(it);
      return job;
    }
    return nullptr;
  }

  bool remove(const Job* job) {
    return std::erase_if(waiting_, [&](const Entry& e) { return e.job == job; }) > 0;
  }
  std::size_t size() const { return waiting_.size(); }
  bool empty() const { return waiting_.empty(); }

 private:
  struct Entry {
    const Job* job;
    double not_before;
  };
  std::deque<Entry> waiting_;
};

}  // namespace equisweep
