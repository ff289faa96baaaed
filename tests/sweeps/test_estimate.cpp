// What a job will take before it runs.
#include "sweeps/estimate.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sweeps/job.h"
#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_estimate {

// 4 bytes a number; adamw keeps two tensors of state for each weight, muon one for the matrices.
TEST(Estimate, CountsWeightsGradientsAndStateExactly) {
  ModelSizes known;
  const SweepSpec spec = read_sweep(kSmallSweep, "f");
  const auto numbers = static_cast<double>(spec.models.at(0).parameters);
  double matrices = 0;
  for (const Job& job : expand(spec)) {
    const MemoryEstimate memory = estimate_memory(job.config, known);
    EXPECT_EQ(memory.weights, 4 * numbers);
    EXPECT_EQ(memory.gradients, 4 * numbers);
    if (job.stack == "adamw") {
      EXPECT_EQ(memory.state, 8 * numbers);
    } else {
      matrices = (8 * numbers - memory.state) / 4;
    }
  }
  double expected = 0;
  ASSERT_EQ(known.size(), 1u);
  for (const auto& [role, count] : known.begin()->second)
    if (role != Role::vector && role != Role::embedding && role != Role::lm_head) expected += count;
  EXPECT_GT(expected, 0);
  EXPECT_EQ(matrices, expected);
}

// What is known of a model is believed: it is described once, however many stacks there are.
TEST(Estimate, AModelIsDescribedOnce) {
  const std::vector<Job> jobs = expand(read_sweep(kSmallSweep, "f"));
  ModelSizes known;
  known[canonical(jobs.at(0).config.at("model"))] = {{Role::attention_q, 100}, {Role::vector, 10}};
  for (const Job& job : jobs) EXPECT_EQ(estimate_memory(job.config, known).weights, 440);
  EXPECT_EQ(known.size(), 1u);
}

}  // namespace test_estimate
}  // namespace equisweep
