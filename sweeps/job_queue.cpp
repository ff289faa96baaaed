#include "sweeps/job_queue.h"

#include <algorithm>
#include <map>
#include <set>

namespace equisweep {

std::vector<Job> start_order(const std::vector<Job>& jobs) {
  std::map<std::int64_t, std::size_t> rank;
  for (const Job& job : jobs) rank.emplace(job.seed, rank.size());
  std::vector<Job> order;
  std::set<std::string> seen;
  for (const Job& job : jobs) {
    if (seen.insert(job.id).second) order.push_back(job);
  }
  std::stable_sort(order.begin(), order.end(), [&](const Job& a, const Job& b) { return rank[a.seed] < rank[b.seed]; });
  return order;
}

}  // namespace equisweep
