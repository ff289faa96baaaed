// Parity with recordings of HuggingFace transformers on the same weights (tests/golden/hf).
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/kernels.h"
#include "core/safetensors.h"
#include "models/decoder.h"
#include "models/huggingface/config.h"
#include "models/huggingface/weights.h"
#include "models/models.h"
#include "models/verify.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_parity {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(EQUISWEEP_SOURCE_DIR) / "tests/golden/hf";

class Parity : public ::testing::TestWithParam<const char*> {};

/// Runs verify_parity() with the plain form of every operation.
ParityReport verify_reference(const fs::path& folder) {
  const Kernels before = kernels();
  set_kernels(Kernels::reference);
  const auto report = verify_parity(folder);
  set_kernels(before);
  return report;
}

TEST_P(Parity, AgreesWithTransformersWithReferenceKernelsToo) {
  const auto report = verify_reference(kGolden / GetParam());
  EXPECT_TRUE(report.ok()) << to_string(report);
}

// Logits, hidden states, loss and the gradient of every weight, in fp64 and fp32, within the bounds of verify.h.
TEST_P(Parity, AgreesWithTransformers) {
  const auto report = verify_parity(kGolden / GetParam());
  EXPECT_TRUE(report.ok()) << to_string(report);
  std::set<std::string> quantities;
  for (const auto& row : report.rows) quantities.insert(row.precision + " " + row.quantity);
  for (const char* precision : {"fp64 ", "fp32 "}) {
    std::vector<const char*> expected = {"logits", "hidden", "loss", "gradients"};
    if (report.architecture == "olmoe" || report.architecture == "gpt_oss") {
      expected.insert(expected.end(), {"router_logits", "aux_loss", "aux_gradients"});
    }
    for (const char* quantity : expected) {
      EXPECT_TRUE(quantities.contains(std::string(precision) + quantity)) << precision << quantity << " was not compared";
    }
  }
}

TEST_P(Parity, BothLayoutsOfTheConfigurationMeanTheSame) {
  EXPECT_EQ(read_huggingface_config(kGolden / GetParam() / "config.json"),
            read_huggingface_config(kGolden / GetParam() / "config.v4.json"));
}

// The recorded gradients name exactly the weights of the model.
TEST_P(Parity, EveryRecordedGradientIsCompared) {
  const auto model = load_huggingface(kGolden / GetParam());
  std::set<std::string> ours, theirs;
  for (const auto& p : model->params()) {
    for (const auto& [name, view] : disk_views(p, p.tensor)) ours.insert(name);
  }
  for (const auto& name : SafetensorsFile(kGolden / GetParam() / "grads.safetensors").names()) theirs.insert(name);
  EXPECT_EQ(ours, theirs);
}

// bf16 has 8 significant bits, so each of the ten-odd roundings on the way is at most 2^-9 of its value; the bounds are some
// five times what is measured and a fraction of what a wrong formula costs.
TEST_P(Parity, Bf16LossIsNearFp32) {
  const auto model = load_huggingface(kGolden / GetParam());
  const SafetensorsFile io(kGolden / GetParam() / "io.safetensors");
  model->set_compute_dtype(at::kBFloat16);
  const Forward out = model->forward(io.tensor("input_ids"));
  EXPECT_EQ(out.hidden_BTD.scalar_type(), at::kBFloat16);
  const at::Tensor loss = model->loss(out.hidden_BTD, io.tensor("labels"));
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  EXPECT_NEAR(loss.item<double>(), io.tensor("loss").item<double>(), 0.02 * io.tensor("loss").item<double>());
  loss.backward();
  for (const auto& p : model->params()) {
    EXPECT_EQ(p.tensor.grad().scalar_type(), at::kFloat) << p.name << ": master weights keep fp32 gradients";
  }
}

INSTANTIATE_TEST_SUITE_P(Recordings, Parity, ::testing::Values("qwen3-a", "qwen3-tied", "gemma3-a", "olmoe-a", "gpt-oss-a"));

// Dense models only: a router in bf16 may send a token that lies between two experts to the other one, and the gradients of
// both change as a whole. test_moe.cpp compares the experts in bf16 on the tokens that are safe.
class Bf16Gradients : public ::testing::TestWithParam<const char*> {};

TEST_P(Bf16Gradients, AreNearTheRecordedOnes) {
  const auto model = load_huggingface(kGolden / GetParam());
  const SafetensorsFile io(kGolden / GetParam() / "io.safetensors"), grads(kGolden / GetParam() / "grads.safetensors");
  model->set_compute_dtype(at::kBFloat16);
  model->loss(model->forward(io.tensor("input_ids")).hidden_BTD, io.tensor("labels")).backward();
  for (const auto& p : model->params()) {
    for (const auto& [name, ours] : disk_views(p, p.tensor.grad())) {
      const at::Tensor recorded = grads.tensor(name);
      EXPECT_LE((ours - recorded).norm().item<double>(), 0.1 * recorded.norm().item<double>()) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Recordings, Bf16Gradients, ::testing::Values("qwen3-a", "qwen3-tied", "gemma3-a"));

TEST(Verify, SeesWhatIsWrong) {
  // The right weights under a configuration that changes the function a little.
  const TempFolder copy;
  for (const char* f : {"model.safetensors", "io.safetensors", "grads.safetensors"}) {
    fs::copy_file(kGolden / "qwen3-a" / f, copy / f);
  }
  auto config = read_huggingface_config(kGolden / "qwen3-a/config.json");
  config["norm_eps"] = 1e-8;
  std::ofstream(copy / "config.json") << config_to_huggingface(config).dump();
  const auto report = verify_parity(copy.path());
  EXPECT_FALSE(report.ok());
  for (const auto& row : report.rows) {
    if (row.precision == "fp64") {
      EXPECT_FALSE(row.ok()) << row.quantity << ": " << row.error;
    }
  }
}

}  // namespace test_parity
}  // namespace equisweep
