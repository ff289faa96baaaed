// Recordings of other programs are reproduced on a GPU within the bounds that hold on the CPU.
#include "models/verify.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/kernels.h"
#include "optimizers/rules.h"
#include "optimizers/verify.h"
#include "tests/cuda/gpu.h"

namespace equisweep::testing {
namespace test_verify {

using Parity = OnGpuWithParam<std::tuple<const char*, Kernels>>;

TEST_P(Parity, AgreesWithTransformers) {
  const auto& [folder, form] = GetParam();
  const Kernels before = kernels();
  set_kernels(form);
  const ParityReport report = verify_parity(golden() / "hf" / folder, kGpu);
  set_kernels(before);
  EXPECT_TRUE(report.ok()) << to_string(report);
  std::set<std::string> compared;
  for (const ParityRow& row : report.rows) compared.insert(row.precision + " " + row.quantity);
  for (const char* precision : {"fp64 ", "fp32 "})
    for (const char* quantity : {"logits", "hidden", "loss", "gradients"})
      EXPECT_TRUE(compared.contains(std::string(precision) + quantity)) << precision << quantity;
}

INSTANTIATE_TEST_SUITE_P(Recordings, Parity,
                         ::testing::Combine(::testing::Values("qwen3-a", "qwen3-tied", "gemma3-a", "olmoe-a", "gpt-oss-a"),
                                            ::testing::Values(Kernels::fused, Kernels::reference)),
                         [](const auto& instance) {
                           std::string name = std::get<0>(instance.param);
                           for (char& c : name)
                             if (c == '-') c = '_';
                           return name + (std::get<1>(instance.param) == Kernels::fused ? "_fused" : "_reference");
                         });

// The bounds are those of IEEE fp32; products on tensor cores in TF32 keep 11 bits.
TEST_F(OnGpu, ProductsInFp32AreNotRoundedToTf32) {
  const at::Tensor a = at::ones({64, 64}, at::kFloat).add_(0x1p-20), b = at::eye(64, at::kFloat);
  EXPECT_TRUE(at::equal(at::matmul(a.to(kGpu), b.to(kGpu)).cpu(), a));
}

class Replay : public OnGpu {};

TEST_F(Replay, EveryPureRecordingIsReproduced) {
  std::set<std::string> seen;
  for (const ReplayResult& result : verify_recordings(golden() / "optim/pure", kGpu)) {
    EXPECT_EQ(result.verdict, ReplayVerdict::pass) << result.id << ' ' << result.precision << ": error " << result.error
                                                   << ", tolerance " << result.tolerance << ' ' << result.problem;
    seen.insert(result.rule);
  }
  for (const RuleInfo& rule : rules()) EXPECT_TRUE(seen.contains(std::string(rule.name))) << rule.name;
}

}  // namespace test_verify
}  // namespace equisweep::testing
