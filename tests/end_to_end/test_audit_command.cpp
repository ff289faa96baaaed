// equisweep audit through the real program: what it prints, what it writes, and its exit codes.

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/process_lock.h"
#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_audit_command {

using ::testing::HasSubstr;

// All but muon, which comes with every polar method and takes as long as the others together.
constexpr const char* kRules = "adamw,sgd,sign,scion,ssd,polargrad,right_polar,left_polar,row_norm,col_norm,hybrid";

class AuditCommand : public ::testing::Test {
 protected:
  ProcessResult audit(std::vector<std::string> args) const {
    args.insert(args.begin(), {EQUISWEEP_PROGRAM, "audit"});
    return run_process(args, folder_.path(), {{"NO_COLOR", "1"}});
  }
  TempFolder folder_;
};

TEST_F(AuditCommand, RulesOfTheTableHoldTheirClaims) {
  const ProcessResult run = audit({"--precision", "fp64", "--rules", kRules, "--json", "audit.json", "--db", "audit.db"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const auto report = nlohmann::json::parse(read_text(folder_.path() / "audit.json"));
  EXPECT_TRUE(report.at("passed").get<bool>());
  std::set<std::string> rules;
  std::int64_t cells = 0;
  for (const auto& cell : report.at("cells")) {
    ++cells;
    const std::string subject = cell.at("subject");
    rules.insert(subject.substr(0, subject.find(' ')));
    EXPECT_GE(cell.at("samples").get<int>(), cell.at("decided").get<int>());
    EXPECT_TRUE(cell.at("action") != "rows.orthogonal" || cell.at("elements") == 20);
  }
  EXPECT_EQ(rules, (std::set<std::string>{"adamw", "sgd", "sign", "scion", "ssd", "polargrad", "right_polar", "left_polar",
                                          "row_norm", "col_norm", "hybrid"}));
  for (const auto& control : report.at("controls")) EXPECT_TRUE(control.at("as_it_must").get<bool>()) << control.dump();

  const auto db = open_read_only(folder_.path() / "audit.db");
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM audit_cells").getInt64(), cells);
  EXPECT_EQ(db->execAndGet("SELECT passed FROM audits").getInt(), 1);
  // adamw ends at signed permutations on both sides, row_norm at signed permutations of units and rotations of features.
  const auto verdict = [&](const std::string& subject, const std::string& action) {
    SQLite::Statement q(*db, "SELECT verdict FROM audit_cells WHERE subject = ? AND action = ? AND precision = 'fp64'");
    q.bind(1, subject);
    q.bind(2, action);
    return q.executeStep() ? q.getColumn(0).getString() : std::string("(none)");
  };
  EXPECT_EQ(verdict("adamw", "rows.signed_permutation"), "exact");
  EXPECT_EQ(verdict("adamw", "rows.orthogonal"), "broken");
  EXPECT_EQ(verdict("adamw", "features.orthogonal"), "broken");
  EXPECT_EQ(verdict("row_norm", "rows.signed_permutation"), "exact");
  EXPECT_EQ(verdict("row_norm", "rows.orthogonal"), "broken");
  EXPECT_EQ(verdict("row_norm", "features.orthogonal"), "holds");
  EXPECT_EQ(verdict("left_polar", "rows.orthogonal"), "holds");
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM audit_cells WHERE failed").getInt(), 0);
  // sign(M) / fan_in is a claim, and a wrong factor commutes with every group.
  EXPECT_EQ(db->execAndGet("SELECT claimed FROM audit_cells WHERE subject = "
                           "'sign' AND action = 'fans'")
                .getInt(),
            1);
}

TEST_F(AuditCommand, SameSeedSameBytesAndAnotherRunIsAdded) {
  const std::vector<std::string> args = {"--rules", "sgd",  "--precision", "fp32",  "--seed",
                                         "3",       "--db", "audit.db",    "--json"};
  const auto with_file = [&](const std::string& file) {
    std::vector<std::string> all = args;
    all.push_back(file);
    return audit(all);
  };
  const ProcessResult first = with_file("a.json"), second = with_file("b.json");
  EXPECT_EQ(first.exit_code, 0) << first.out << first.err;
  EXPECT_EQ(first.out, second.out);
  EXPECT_EQ(read_text(folder_.path() / "a.json"), read_text(folder_.path() / "b.json"));
  EXPECT_EQ(open_read_only(folder_.path() / "audit.db")->execAndGet("SELECT count(*) FROM audits").getInt(), 2);
}

TEST_F(AuditCommand, NamesWhatItDoesNotKnow) {
  const ProcessResult rule = audit({"--rules", "mion"});
  EXPECT_EQ(rule.exit_code, 2);
  EXPECT_THAT(rule.err, HasSubstr("'mion'"));
  EXPECT_THAT(rule.err, HasSubstr("muon"));
  const ProcessResult precision = audit({"--precision", "fp46"});
  EXPECT_EQ(precision.exit_code, 2);
  EXPECT_THAT(precision.err, HasSubstr("did you mean 'fp64'"));
  EXPECT_EQ(audit({"--rules", "sgd", "--precision", "fp64", "--db", "no/such/folder/audit.db"}).exit_code, 5);
}

// Before the minutes that an audit takes, not after them: nothing has been
// printed yet.
TEST_F(AuditCommand, FilesThatCannotBeWrittenAreFoundOutFirst) {
  std::filesystem::create_directory(folder_.path() / "folder");
  struct Case {
    const char *option, *file;
    int exit_code;
  };
  for (const Case& c : {Case{"--json", "no/such/folder/audit.json", 1}, Case{"--json", "folder", 2},
                        Case{"--db", "no/such/folder/audit.db", 5}, Case{"--db", "folder", 5}}) {
    const ProcessResult run = audit({"--rules", "sgd", "--precision", "fp64", c.option, c.file});
    EXPECT_EQ(run.exit_code, c.exit_code) << c.file << run.err;
    EXPECT_EQ(run.out, "") << c.option << " " << c.file;
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1) << "only the folder";
}

TEST_F(AuditCommand, APrecisionCountsOnce) {
  const ProcessResult run = audit({"--rules", "sgd", "--precision", "fp64,fp32,fp64", "--db", "audit.db"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("fp64 twice"));
  EXPECT_EQ(run.out, "");
}

TEST_F(AuditCommand, TheDatabaseOfASweepIsWrittenByOneProcessAtATime) {
  const std::vector<std::string> args = {"--rules", "sgd", "--precision", "fp64", "--elements", "2", "--db", "sweep.db"};
  {
    const ProcessLock supervisor(folder_.path() / "supervisor.lock", "is running this sweep");
    const ProcessResult run = audit(args);
    EXPECT_EQ(run.exit_code, 5);
    EXPECT_THAT(run.err, HasSubstr("is running this sweep"));
    EXPECT_EQ(run.out, "");
    EXPECT_FALSE(std::filesystem::exists(folder_.path() / "sweep.db"));
  }
  const ProcessResult run = audit(args);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const auto db = open_read_only(folder_.path() / "sweep.db");
  EXPECT_EQ(db->execAndGet("SELECT elements FROM audits").getInt(), 2);
}

}  // namespace test_audit_command
}  // namespace equisweep::testing
