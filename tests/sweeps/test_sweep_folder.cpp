// What a folder of results says that somebody has damaged.
#include "sweeps/sweep_folder.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_sweep_folder {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kDamaged[] = {"",
                                "{",
                                "nothing",
                                R"({"seed": 1e400})",
                                "{\"seed\": \xff}",
                                R"({"seed": )" + std::string(200'000, '[') + std::string(200'000, ']') + "}"};

TEST(SweepFolder, AConfigThatCannotBeReadIsAnErrorThatNamesIt) {
  const TempFolder folder;
  const std::filesystem::path file = folder / "config.yaml";
  for (const std::string& text : kDamaged) {
    std::ofstream(file) << text;
    EXPECT_THAT([&] { read_job_config(folder.path()); },
                ::testing::ThrowsMessage<DataError>(AllOf(HasSubstr(file.string()), HasSubstr("is not the config"))))
        << text.substr(0, 40);
  }
  std::ofstream(file) << R"({"seed": 1})";
  EXPECT_EQ(read_job_config(folder.path()), nlohmann::json({{"seed", 1}}));
}

TEST(SweepFolder, SoIsAPlanThatCannotBeRead) {
  const TempFolder folder;
  SweepStore(folder / "sweep.db").set_plan({{.job = "0123456789abcdef", .axes = "{}", .config = R"({"seed":1})"}});
  ASSERT_EQ(recorded_jobs(folder.path()).size(), 1u);
  SQLite::Database db(folder / "sweep.db", SQLite::OPEN_READWRITE);
  const auto set = [&](const char* sql, const std::string& text) {
    SQLite::Statement update(db, sql);
    update.bind(1, text);
    update.exec();
  };
  for (const auto& [sql, good] :
       {std::pair{"UPDATE runs SET config = ?", R"({"seed":1})"}, {"UPDATE cells SET axes = ?", "{}"}})
    for (const std::string& text : kDamaged) {
      set(sql, text);
      EXPECT_THAT(
          [&] { recorded_jobs(folder.path()); },
          ::testing::ThrowsMessage<DatabaseError>(AllOf(HasSubstr((folder / "sweep.db").string()), HasSubstr("is damaged"))))
          << sql << " " << text.substr(0, 40);
      set(sql, good);
    }
  EXPECT_EQ(recorded_jobs(folder.path()).size(), 1u);
}

}  // namespace test_sweep_folder
}  // namespace equisweep
