// What a sweep.db that cannot be written says while it takes in a run.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <optional>
#include <string>
#include <vector>

#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_sweep_store_refused {

const std::string kJob = "aaaaaaaaaaaaaaaa";

CellRow cell() { return {.job = kJob, .model = "m", .stack = "s", .config = "{}"}; }

/// Connections that are opened while this lives.
class Opened {
 public:
  Opened() {
    all_.clear();
    sqlite3_auto_extension(reinterpret_cast<void (*)()>(&note));
  }
  ~Opened() { sqlite3_reset_auto_extension(); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  sqlite3* last() const { return all_.back(); }

 private:
  static int note(sqlite3* db, char**, const void*) {
    all_.push_back(db);
    return SQLITE_OK;
  }
  static inline std::vector<sqlite3*> all_;
};

// Of the two files that are open while a run is taken in, the sweep's is the one that is written.
TEST(SweepStore, ALockOrAFullDiskIsNoFaultOfTheRun) {
  const TempFolder folder;
  std::optional<SweepStore> store;
  sqlite3* connection = nullptr;
  {
    const Opened opened;
    store.emplace(folder / "sweep.db");
    connection = opened.last();
  }
  store->set_plan({cell()});
  {
    RunStore run(folder / "run.db", kJob, cell().config, {.attempt = 1, .started_at = "S"});
    for (std::int64_t step = 1; step <= 2000; ++step) run.add(StepRow{.step = step, .loss = 1});
    run.finish({.state = RunState::done});
  }
  const auto expect_refused = [&](const std::string& why) {
    EXPECT_THAT([&] { store->ingest(folder / "run.db"); },
                ::testing::ThrowsMessage<SweepStoreError>(
                    ::testing::AllOf(::testing::HasSubstr((folder / "sweep.db").string()), ::testing::HasSubstr(why))));
    EXPECT_EQ(store->state(kJob), RunState::queued);
  };
  EXPECT_FALSE(store->locked());
  {
    SQLite::Database other(folder / "sweep.db", SQLite::OPEN_READWRITE);
    other.exec("BEGIN EXCLUSIVE");
    EXPECT_TRUE(store->locked());
    sqlite3_busy_timeout(connection, 0);  // so that the test need not wait
    expect_refused("has been locked");
  }
  EXPECT_FALSE(store->locked());
  const auto pages = [&](const std::string& n) {
    EXPECT_EQ(sqlite3_exec(connection, ("PRAGMA main.max_page_count = " + n).c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  };
  pages("1");  // that is, as many as it has
  expect_refused("full");
  pages("1000000");
  EXPECT_GT(store->ingest(folder / "run.db"), 0);
  EXPECT_EQ(store->state(kJob), RunState::done);
}

}  // namespace test_sweep_store_refused
}  // namespace equisweep
