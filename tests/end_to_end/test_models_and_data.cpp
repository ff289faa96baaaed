// Weights, routers and corpora through the real program.

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_models_and_data {

constexpr const char* kHead = R"(version: 1
name: small
data:  {corpus: synthetic, seq_len: 16, batch_tokens: 128, seed: 1}
stacks: {adamw: {default: {rule: adamw, lr: 3e-3}}}
)";

constexpr const char* kOlmoe = R"(train: {steps: 12, eval: {every: 6, tokens: 256}}
model: {vocab: 61, d: 16, layers: 2, heads: 2, kv_heads: 2, head_dim: 8, expert_ff: 12}
grid: {model: olmoe-nano}
)";

class ModelsAndData : public ::testing::Test {
 protected:
  ProcessResult equisweep(std::vector<std::string> args) const {
    args.insert(args.begin(), EQUISWEEP_PROGRAM);
    return run_process(args, folder_.path(), {{"NO_COLOR", "1"}});
  }

  /// Runs the sweep into `results`, with one CPU thread a job.
  ProcessResult run(const std::string& text, const std::string& results, std::vector<std::string> sets = {}) const {
    write_text(folder_.path() / "small.yaml", text);
    std::vector<std::string> args = {"run", "small.yaml", "--results", results, "--jobs", "1"};
    for (auto& set : sets) args.insert(args.end(), {"--set", std::move(set)});
    return equisweep(args);
  }

  std::string query(const std::string& results, const std::string& sql) const {
    const auto db = open_read_only(folder_.path() / results / "small/sweep.db");
    SQLite::Statement q(*db, sql);
    std::string out;
    while (q.executeStep()) {
      for (int c = 0; c < q.getColumnCount(); ++c) out += (c ? "|" : "") + q.getColumn(c).getString();
      out += "\n";
    }
    return out;
  }

  TempFolder folder_;
};

constexpr const char* kLosses = "SELECT step, printf('%.17g', loss) FROM loss_curve ORDER BY step";

TEST_F(ModelsAndData, RouterStatisticsAreLoggedAndChangeNothing) {
  const std::string sweep = std::string(kHead) + kOlmoe;
  ASSERT_EQ(run(sweep, "plain").exit_code, 0);
  const ProcessResult logged = run(sweep + "log: {router: {every: 5}}\n", "logged");
  ASSERT_EQ(logged.exit_code, 0) << logged.err;
  EXPECT_EQ(query("plain", kLosses), query("logged", kLosses));
  // Steps 1, 5 and 10 of two layers, eight experts; each of 128 tokens goes to two of them.
  EXPECT_EQ(query("logged", "SELECT step, layer, sum(tokens), count(*) FROM expert_load GROUP BY step, layer"),
            "1|0|256|8\n1|1|256|8\n5|0|256|8\n5|1|256|8\n10|0|256|8\n10|1|256|8\n");
  EXPECT_EQ(
      query("logged",
            "SELECT count(*) FROM router_stats s WHERE nonfinite = 0 AND logit_norm > 0 AND z_loss > 0 AND "
            "load_entropy BETWEEN 0 AND 1 AND abs(load_cv * load_cv - (SELECT avg((tokens - 32.0) * (tokens - 32.0)) / "
            "1024 FROM expert_load l WHERE l.step = s.step AND l.layer = s.layer)) < 1e-9"),
      "6\n");
}

TEST_F(ModelsAndData, RouterTermsActOnTheRouterAndNotOnTheLoggedLoss) {
  const std::string sweep = std::string(kHead) + kOlmoe + "log: {router: {every: 1}}\n";
  ASSERT_EQ(run(sweep, "off").exit_code, 0);
  ASSERT_EQ(run(sweep, "zero", {"train.router={balance_loss: 0, z_loss: 0}"}).exit_code, 0);
  ASSERT_EQ(run(sweep, "on", {"train.router={z_loss: 1}"}).exit_code, 0);
  EXPECT_EQ(query("off", kLosses), query("zero", kLosses));
  const auto loss_of_step = [&](const char* results, int step) {
    return query(results, "SELECT printf('%.17g', loss) FROM loss_curve WHERE step = " + std::to_string(step));
  };
  EXPECT_EQ(loss_of_step("off", 1), loss_of_step("on", 1));
  EXPECT_NE(loss_of_step("off", 3), loss_of_step("on", 3));
  const auto z = [&](const char* results) {
    return nlohmann::json::parse(query(results, "SELECT avg(z_loss) FROM router_stats WHERE step = 12")).get<double>();
  };
  EXPECT_LT(z("on"), 0.9 * z("off"));
}

TEST_F(ModelsAndData, RecomputationGivesTheSameRun) {
  const std::string sweep = std::string(kHead) + kOlmoe;
  ASSERT_EQ(run(sweep, "plain", {"train.router={balance_loss: 0.01, z_loss: 0.001}"}).exit_code, 0);
  ASSERT_EQ(run(sweep, "again", {"train.router={balance_loss: 0.01, z_loss: 0.001}", "train.recompute=true"}).exit_code, 0);
  EXPECT_EQ(query("plain", kLosses), query("again", kLosses));
}

// What the worker is told reaches the operations: the runs are not the same, but close.
TEST_F(ModelsAndData, ReferenceKernelsTrainTheSameUpToRounding) {
  const std::string sweep = std::string(kHead) + kOlmoe;
  ASSERT_EQ(run(sweep, "fused", {"train.kernels=fused"}).exit_code, 0);
  ASSERT_EQ(run(sweep, "reference", {"train.kernels=reference"}).exit_code, 0);
  EXPECT_NE(query("fused", kLosses), query("reference", kLosses));
  const auto loss = [&](const char* results) {
    return nlohmann::json::parse(query(results, "SELECT loss FROM loss_curve WHERE step = 12")).get<double>();
  };
  EXPECT_NEAR(loss("fused"), loss("reference"), 1e-3);
}

// The weights that one run leaves are those that the next begins with: the validation loss tells.
TEST_F(ModelsAndData, ExportedWeightsAreWhereTheNextRunBegins) {
  ASSERT_EQ(run(std::string(kHead) + kOlmoe + "log: {weights: final}\n", "first").exit_code, 0);
  const std::string id = query("first", "SELECT job FROM runs");
  const ProcessResult exported =
      equisweep({"export-hf", id.substr(0, 7), "exported", "--results", "first", "--with-logits"});
  ASSERT_EQ(exported.exit_code, 0) << exported.err;
  EXPECT_NE(exported.out.find("no tokenizer"), std::string::npos) << exported.out;
  const ProcessResult verified = equisweep({"models", "verify", "exported"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
  EXPECT_EQ(equisweep({"export-hf", id.substr(0, 7), "exported", "--results", "first"}).exit_code, 2) << "it exists";

  const std::string next = std::string(kHead) + "train: {steps: 2, eval: {every: 1, tokens: 256}}\ngrid: {}\n";
  const ProcessResult second = run(next + "init_from: exported\n", "second");
  ASSERT_EQ(second.exit_code, 0) << second.err;
  const char* eval = "SELECT printf('%.17g', loss) FROM eval_curve WHERE step = ";
  EXPECT_EQ(query("second", eval + std::string("0")), query("first", eval + std::string("12")));
  EXPECT_EQ(query("second", "SELECT DISTINCT model FROM cells"), "exported\n");

  // A worker that finds other weights than those of the plan says so.
  const auto weights = folder_.path() / "exported/model.safetensors";
  std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x3c');
  file.close();
  const std::string run_dir = "second/small/runs/" + query("second", "SELECT job FROM runs").substr(0, 16);
  std::filesystem::create_directory(folder_.path() / "alone");  // the run itself is done, and stays as it is
  std::filesystem::copy(folder_.path() / run_dir / "config.yaml", folder_.path() / "alone");
  const ProcessResult changed = equisweep({"exec", "alone"});
  EXPECT_EQ(changed.exit_code, 1);
  EXPECT_NE(changed.err.find("not those that the sweep was planned with"), std::string::npos) << changed.err;
}

// A run of one sequence a batch trains with 17 tokens of either part; its export asks for no more.
TEST_F(ModelsAndData, LogitsOfTheOneWindowThatThereIsAreExported) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i) + " of a small book\n";
  write_text(folder_.path() / "book.txt", text);
  for (const char* held_out : {"line 7\n", "line 7 of a small book, and line 8 of a small book\n"}) {
    write_text(folder_.path() / "val.txt", held_out);
    std::filesystem::remove_all(folder_.path() / "book");
    ASSERT_EQ(
        equisweep({"data", "prepare", "--text", "book.txt", "--val-text", "val.txt", "--vocab", "300", "--out", "book"})
            .exit_code,
        0);
    const std::int64_t tokens =
        nlohmann::json::parse(read_text(folder_.path() / "book/manifest.json")).at("val").at("tokens");
    const std::int64_t length = (tokens - 1) / (held_out[6] == '\n' ? 1 : 3);  // one window, or three
    const ProcessResult trained =
        run("version: 1\nname: small\ndata: {corpus: ./book, seq_len: " + std::to_string(length) +
                ", batch_tokens: " + std::to_string(length) + "}\ntrain: {steps: 1, eval: {every: 1, tokens: 1}}\n" +
                "model: {vocab: 300, d: 16, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, ff: 24}\n" +
                "grid: {model: qwen3-nano}\nstacks: {adamw: {default: {rule: adamw, lr: 3e-3}}}\nlog: {weights: final}\n",
            "of-" + std::to_string(tokens));
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    const std::string out = "exported-" + std::to_string(tokens);
    const std::string id = query("of-" + std::to_string(tokens), "SELECT job FROM runs").substr(0, 16);
    const ProcessResult exported =
        equisweep({"export-hf", id, out, "--results", "of-" + std::to_string(tokens), "--with-logits"});
    ASSERT_EQ(exported.exit_code, 0) << exported.err;
    const std::string windows = held_out[6] == '\n' ? "1" : "2";
    EXPECT_NE(read_text(folder_.path() / out / "io.safetensors")
                  .find("\"shape\":[" + windows + "," + std::to_string(length) + "]"),
              std::string::npos)
        << tokens;
    EXPECT_EQ(equisweep({"models", "verify", out}).exit_code, 0);
  }
}

TEST_F(ModelsAndData, RunsWithoutFinalWeightsCannotBeExported) {
  ASSERT_EQ(run(std::string(kHead) + kOlmoe, "first").exit_code, 0);
  const ProcessResult none =
      equisweep({"export-hf", query("first", "SELECT job FROM runs").substr(0, 16), "exported", "--results", "first"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_NE(none.err.find("log: {weights: final}"), std::string::npos) << none.err;
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "exported"));
  EXPECT_EQ(equisweep({"export-hf", "ffffffff", "exported", "--results", "first"}).exit_code, 3);
}

// 1,024 tokens over 262,144 pieces: fp32 logits alone are 1 GiB, their softmax and gradient as much again. The loss never
// holds more than a chunk of them, so 4,096 tokens take the same memory (and a minute, which is why they are not used here).
TEST_F(ModelsAndData, LargeVocabularyFitsIntoLittleMemory) {
  const ProcessResult result = run(R"(version: 1
name: small
data:  {corpus: synthetic, seq_len: 128, batch_tokens: 1024}
train: {steps: 1, eval: {every: 1, tokens: 1}}
model: {vocab: 262144, d: 64, layers: 1}
grid: {model: qwen3-nano}
stacks: {adamw: {default: {rule: adamw, lr: 3e-3}}}
)",
                                   "large");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(query("large", "SELECT state, peak_rss_bytes < 1500000000 FROM attempts"), "done|1\n")
      << query("large", "SELECT peak_rss_bytes FROM attempts");
}

// 16 blocks on 2,048 tokens of width 64 keep some 12 MB of activations each; their inputs are 0.5 MB each.
TEST_F(ModelsAndData, RecomputationSavesTheActivations) {
  const std::string sweep = R"(version: 1
name: small
data:  {corpus: synthetic, seq_len: 128, batch_tokens: 2048}
train: {steps: 1, eval: {every: 1, tokens: 1}}
model: {vocab: 64, layers: 16}
grid: {model: qwen3-nano}
stacks: {adamw: {default: {rule: adamw, lr: 3e-3}}}
)";
  ASSERT_EQ(run(sweep, "plain").exit_code, 0);
  ASSERT_EQ(run(sweep, "again", {"train.recompute=true"}).exit_code, 0);
  EXPECT_EQ(query("plain", kLosses), query("again", kLosses));
  const auto peak = [&](const char* results) {
    return nlohmann::json::parse(query(results, "SELECT peak_rss_bytes FROM attempts")).get<std::int64_t>();
  };
  EXPECT_LT(peak("again"), peak("plain") - 100'000'000) << peak("plain");
}

TEST_F(ModelsAndData, EveryWeightIsDescribed) {
  const ProcessResult described = equisweep({"models", "--describe", "olmoe-nano", "--json"});
  ASSERT_EQ(described.exit_code, 0) << described.err;
  const auto model = nlohmann::json::parse(described.out);
  std::int64_t parameters = 0;
  std::map<std::string, nlohmann::json> weights;
  for (const auto& w : model.at("weights")) {
    parameters += w.at("parameters").get<std::int64_t>();
    weights[w.at("name")] = w;
  }
  EXPECT_EQ(parameters, 198208);
  const auto expect = [&](const std::string& name, const char* role, const char* view, const char* symmetry,
                          const char* init) {
    EXPECT_EQ(weights[name].at("role"), role) << name;
    EXPECT_EQ(weights[name].at("view"), view) << name;
    EXPECT_EQ(weights[name].at("symmetry"), symmetry) << name;
    EXPECT_EQ(weights[name].at("init"), init) << name;
  };
  expect("model.layers.1.mlp.gate.weight", "router", "whole 8 x 64", "P(experts) x O(d), shared shift", "normal(0, 0.02)");
  expect("model.layers.0.mlp.experts.gate_up_proj", "experts_gate_up", "split 8 x 2 x 32 x 64",
         "P(neurons) x O(d) in each expert", "normal(0, 0.02)");
  expect("model.norm.weight", "vector", "-", "none claimed", "ones");
  EXPECT_EQ(equisweep({"models", "--describe", "olmoe-nanno"}).exit_code, 2);
}

TEST_F(ModelsAndData, CorporaAreListedAndShown) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "line " + std::to_string(i) + " of a small book\n";
  write_text(folder_.path() / "book.txt", text);
  ASSERT_EQ(
      equisweep({"data", "prepare", "--text", "book.txt", "--vocab", "300", "--out", "results/corpora/book"}).exit_code, 0);
  const ProcessResult list = equisweep({"data", "list", "--json"});
  ASSERT_EQ(list.exit_code, 0) << list.err;
  const auto corpora = nlohmann::json::parse(list.out);
  ASSERT_EQ(corpora.size(), 1u);
  EXPECT_EQ(corpora[0].at("corpus"), "results/corpora/book");
  EXPECT_EQ(corpora[0].at("vocabulary"), 300);

  const ProcessResult shown = equisweep({"data", "show", "results/corpora/book", "--seq-len", "40"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_EQ(shown.out.substr(0, 47), "line 0 of a small book\nline 1 of a small book\nl") << shown.out;
  EXPECT_EQ(equisweep({"data", "show", "results/corpora/book", "--window", "99999"}).exit_code, 2);
  EXPECT_EQ(equisweep({"data", "show", "synthetic"}).exit_code, 2) << "no vocabulary";
  // What prepare cannot do is refused with its range before the text is read.
  const auto refusal = [&](const char* vocabulary, const char* fraction) {
    return equisweep(
               {"data", "prepare", "--text", "no.txt", "--out", "no", "--vocab", vocabulary, "--val-fraction", fraction})
        .err;
  };
  EXPECT_NE(refusal("1048577", "0.5").find("1048577 not in range 1 to 1048576"), std::string::npos);
  EXPECT_NE(refusal("1048576", "0.51").find("0.51 not in range 0.000000 to 0.500000"), std::string::npos);
  EXPECT_NE(refusal("1048576", "0").find("0 is not possible; allowed: above 0, up to 0.5"), std::string::npos);
  const ProcessResult ids = equisweep({"data", "show", "synthetic", "--vocab", "7", "--seq-len", "3"});
  EXPECT_EQ(ids.exit_code, 0) << ids.err;
  EXPECT_EQ(std::count(ids.out.begin(), ids.out.end(), ' '), 2) << ids.out;
}

}  // namespace test_models_and_data
}  // namespace equisweep::testing
