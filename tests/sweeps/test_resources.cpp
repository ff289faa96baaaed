// How many jobs the cores are divided among: a number of the sweep file alone.

#include "sweeps/cli/resources.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_resources {

TEST(JobsOfFile, AreTheDifferentOnesOfAPlainSweep) {
  const SweepSpec spec = read_sweep(kSmallSweep, "f");
  EXPECT_EQ(jobs_of_file(spec, make_plan(spec)), 8u);
}

// Trials come when a grid grows, and jobs that confirm when something is chosen, or not where every trial diverged: the
// threads of a job, and with them its last digits, must not hang on how far the sweep was when it was continued.
TEST(JobsOfFile, DoNotChangeWithTheResultsOfATuning) {
  const SweepSpec spec = read_sweep(changed("lr_scale: [1, 2], seed: [0, 1]}",
                                            "lr_scale: [1, 2, 4]}\ntune: {seeds: [0], confirm_seeds: [7, 8], extend: 2}"),
                                    "f");
  for (const bool diverges : {false, true}) {
    TuneResults results;
    std::size_t least = 1000, most = 0;
    for (bool more = true; more;) {
      const SweepPlan plan = make_plan(spec, results);
      EXPECT_EQ(jobs_of_file(spec, plan), 2u * 3u + 2u * 2u) << results.size() << " results";
      least = std::min(least, plan.jobs.size());
      most = std::max(most, plan.jobs.size());
      more = false;
      for (const Job& job : plan.jobs) {  // one result at a time; the best rates lie beyond the grid
        if (results.contains(job.id)) continue;
        results[job.id] = diverges ? JobResult{.state = RunState::diverged, .loss = std::numeric_limits<double>::infinity()}
                                   : JobResult{.state = RunState::done, .loss = 5 - std::log2(job.lr_scale)};
        more = true;
        break;
      }
    }
    EXPECT_EQ(least, 6u);
    EXPECT_EQ(most, diverges ? 6u : 6u + 2 * 2 + 2 * 2) << "the plan itself does change";
  }
}

}  // namespace test_resources
}  // namespace equisweep
