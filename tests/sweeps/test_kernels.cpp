// train.kernels: the fused operations, of the models and of the optimizer, train as ATen's operations one by one do, up to
// the order of rounding.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/kernels.h"
#include "tests/sweeps/training_fixture.h"

namespace equisweep::testing {
namespace test_kernels_key {

using nlohmann::json;

Curve losses_with(Kernels form, const json& config) {
  const Kernels before = kernels();
  set_kernels(form);
  SmallRun run(config);
  EXPECT_EQ(run.train(kNoCheckpoints).outcome.state, RunState::done);
  set_kernels(before);
  return curve_of(run.run_db(), "SELECT step, loss FROM steps");
}

// Twelve steps from the same weights. A rounding of the first step grows with each that follows, by some ten times here:
// 1e-10 and 1e-3 of a loss of 4 are 1e5 and 1e3 roundings of fp64 and fp32. An operation that does something else than its
// plain form shows in the second digit.
TEST(TrainKernels, FusedAndReferenceRunsDifferByRoundingAlone) {
  const json stack = {{"default", stack_entry("adamw")},
                      {"matrix", stack_entry("muon")},
                      {"embedding", stack_entry("row_norm")},
                      {"lm_head", stack_entry("right_polar", {{"centered", true}})}};
  for (const auto& [model, dimensions] : std::vector<std::pair<std::string, json>>{{"qwen3-nano", kSmallDimensions},
                                                                                   {"gemma3-nano", {{"vocab", 61}}},
                                                                                   {"olmoe-nano", {{"vocab", 61}}},
                                                                                   {"gpt_oss-nano", {{"vocab", 61}}}})
    for (const auto& [precision, bound] : {std::pair{"fp64", 1e-10}, std::pair{"fp32", 1e-3}}) {
      const json config = small_job(model, dimensions, stack, precision);
      const Curve fused = losses_with(Kernels::fused, config), reference = losses_with(Kernels::reference, config);
      ASSERT_EQ(fused.size(), static_cast<std::size_t>(kResumeSteps));
      EXPECT_NE(fused, reference) << model << " has no fused operation";
      double worst = 0;
      for (const auto& [step, loss] : fused)
        worst = std::max(worst, std::abs(std::bit_cast<double>(loss) - std::bit_cast<double>(reference.at(step))));
      EXPECT_LE(worst, bound) << model << ' ' << precision;
    }
}

}  // namespace test_kernels_key
}  // namespace equisweep::testing
