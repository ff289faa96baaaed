// equisweep audit --models through the real program: who keeps which symmetry in training, and by how much the others miss.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_audit_models {

using ::testing::HasSubstr;

struct Expectation {
  const char *action, *subject;
  bool kept;
  double at_least, at_most;  ///< of the error; where it is kept, at most rounding
};

constexpr double kRounding = 1e-10;

const Expectation kTable[] = {
    {"vocabulary", "adamw", true, 0, kRounding},
    {"vocabulary", "muon", true, 0, kRounding},
    {"head_shift", "sgd", true, 0, kRounding},
    {"head_shift", "muon", true, 0, kRounding},
    {"head_shift", "left_polar", true, 0, kRounding},
    {"head_shift", "row_norm, centred head and router", true, 0, kRounding},
    {"head_shift", "adamw", false, 0.01, 1},
    {"head_shift", "row_norm", false, 0.01, 1},
    {"router_shift", "right_polar", true, 0, kRounding},
    {"router_shift", "adamw", false, 0.01, 1},
    {"experts", "hybrid", true, 0, kRounding},
    {"neurons", "adamw", true, 0, kRounding},
    {"neurons", "row_norm, wrong layout", true, 0, kRounding},
    {"up_signs", "adamw", true, 0, kRounding},
    {"heads", "muon", true, 0, kRounding},
    {"heads", "muon, heads apart", true, 0, kRounding},
    {"value_rotation", "sgd", true, 0, kRounding},
    {"value_rotation", "muon", true, 0, kRounding},
    {"value_rotation", "muon, heads apart", true, 0, kRounding},
    {"value_rotation", "adamw", false, 0.05, 1.5},
    {"value_rotation", "row_norm", false, 0.05, 1.5},
    {"torus", "sgd", true, 0, kRounding},
    {"torus", "muon", true, 0, kRounding},
    {"torus", "adamw", false, 0.05, 1.5},
    {"torus", "row_norm", false, 0.05, 1.5},
    {"residual", "row_norm", true, 0, kRounding},
    {"residual", "hybrid", true, 0, kRounding},
    {"residual", "muon", true, 0, kRounding},
    {"residual", "adamw", false, 0.1, 1.5},
    {"residual", "row_norm, rows of o and down", false, 0.05, 1.5},
    {"residual", "row_norm, wrong layout", false, 0.05, 1.5},
    {"residual_signs", "adamw", true, 0, kRounding},
    {"up_scale", "sgd", false, 0.05, 10},
    {"up_scale", "muon", false, 0.05, 10},
    {"product_signs", "adamw", true, 0, kRounding},
    {"product_signs", "row_norm", true, 0, kRounding},
    {"product_all", "sgd", true, 0, kRounding},
    {"product_all", "muon", true, 0, kRounding},
    {"product_all", "adamw", false, 0.05, 1.5},
};

TEST(AuditModels, EveryRowOfTheTableOfActions) {
  const TempFolder folder;
  const ProcessResult run =
      run_process({EQUISWEEP_PROGRAM, "audit", "--models", "--elements", "1", "--json", "models.json", "--db", "audit.db"},
                  folder.path(), {{"NO_COLOR", "1"}});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const auto report = nlohmann::json::parse(read_text(folder.path() / "models.json"));
  EXPECT_TRUE(report.at("passed").get<bool>());
  EXPECT_TRUE(report.at("cells").empty());

  std::map<std::tuple<std::string, std::string, std::string>, nlohmann::json> cells;
  for (const auto& cell : report.at("models")) {
    cells[{cell.at("architecture"), cell.at("action"), cell.at("subject")}] = cell;
    EXPECT_LE(cell.at("loss_change").get<double>(), 1e-12) << cell.dump();
  }
  for (const Expectation& e : kTable) {
    std::int64_t found = 0;
    for (const char* architecture : {"qwen3", "gemma3", "olmoe", "gpt_oss"}) {
      const auto cell = cells.find({architecture, e.action, e.subject});
      if (cell == cells.end()) continue;
      ++found;
      EXPECT_EQ(cell->second.at("claimed").get<bool>(), e.kept) << cell->second.dump();
      EXPECT_GE(cell->second.at("error").get<double>(), e.at_least) << cell->second.dump();
      EXPECT_LE(cell->second.at("error").get<double>(), e.at_most) << cell->second.dump();
    }
    EXPECT_GT(found, 0) << e.action << " " << e.subject;
  }

  const std::map<std::string, std::int64_t> conditions = {{"z-loss on the LM head", 4},
                                                          {"softcap", 1},
                                                          {"tied embedding", 4},
                                                          {"router z-loss", 2},
                                                          {"ties in top-k", 2},
                                                          {"a wrong pair layout", 2},
                                                          {"up + 1", 2},
                                                          {"query heads across groups", 4},
                                                          {"the bias of v does not rotate along", 4},
                                                          {"trained gains of QK-norm", 3},
                                                          {"trained gains of RMSNorm", 4},
                                                          {"biases by adamw", 1}};
  std::map<std::string, std::int64_t> shown;
  for (const auto& b : report.at("breaks")) {
    ++shown[b.at("condition")];
    EXPECT_TRUE(b.at("as_it_must").get<bool>()) << b.dump();
    EXPECT_GT(b.at("change").get<double>(), 1e-4) << b.dump();
  }
  EXPECT_EQ(shown, conditions);

  const auto db = open_read_only(folder.path() / "audit.db");
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM audit_models").getInt64(), static_cast<std::int64_t>(cells.size()));
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM audit_models WHERE elements = "
                           "1 AND NOT failed")
                .getInt64(),
            static_cast<std::int64_t>(cells.size()));
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM audit_breaks WHERE as_it_must").getInt64(),
            static_cast<std::int64_t>(report.at("breaks").size()));
  EXPECT_EQ(db->execAndGet("SELECT passed FROM audits").getInt(), 1);
}

TEST(AuditModels, TrainInFp64Alone) {
  const TempFolder folder;
  const ProcessResult run =
      run_process({EQUISWEEP_PROGRAM, "audit", "--models", "qwen3", "--precision", "bf16"}, folder.path(), {});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("trains in fp64"));
  EXPECT_EQ(run.out, "");
}

TEST(AuditModels, NamesTheArchitectureThatItDoesNotKnow) {
  const TempFolder folder;
  const ProcessResult run = run_process({EQUISWEEP_PROGRAM, "audit", "--models", "qwen"}, folder.path(), {});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("did you mean 'qwen3'"));
}

}  // namespace test_audit_models
}  // namespace equisweep::testing
