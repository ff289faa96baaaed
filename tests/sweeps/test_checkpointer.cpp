// When a run is saved, and whether there is room for it.
#include "sweeps/checkpointer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include <fstream>
#include <limits>

#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_checkpointer {

using ::testing::HasSubstr;

TEST(Checkpointer, IsDueByStepsAndByTime) {
  const TempFolder folder;
  RunStore store(folder / "run.db", "0123456789abcdef", "{}", {.attempt = 1, .started_at = "S"});
  Checkpointer::Clock::time_point now = {};
  const auto checkpointer = [&](const CheckpointPolicy& policy) {
    return Checkpointer(folder / "ckpt", policy, store, [&] { return now; });
  };
  const Checkpointer off = checkpointer({.every = 0, .minutes = 0});
  const Checkpointer steps = checkpointer({.every = 3, .minutes = 0});
  const Checkpointer minutes = checkpointer({.every = 0, .minutes = 2});
  Checkpointer both = checkpointer({.every = 3, .minutes = 2});
  EXPECT_FALSE(off.on());
  EXPECT_TRUE(steps.on() && minutes.on() && both.on());
  for (std::int64_t step = 1; step <= 7; ++step) {
    EXPECT_FALSE(off.due(step) || minutes.due(step));
    EXPECT_EQ(steps.due(step), step == 3 || step == 6);
    EXPECT_EQ(both.due(step), step == 3 || step == 6);
  }
  now += std::chrono::seconds(119);
  EXPECT_FALSE(minutes.due(1));
  now += std::chrono::seconds(1);
  EXPECT_TRUE(minutes.due(1) && both.due(1));
  EXPECT_FALSE(off.due(1) || steps.due(1));
  Checkpoint checkpoint;
  checkpoint.step = 1;
  EXPECT_TRUE(both.write(checkpoint));
  EXPECT_FALSE(both.due(1));
  now += std::chrono::minutes(2);
  EXPECT_TRUE(both.due(1));
}

TEST(Checkpointer, SpaceForOneMoreThanIsKept) {
  const CheckpointPolicy two = {.every = 1, .minutes = 0, .keep = 2}, none = {.every = 0, .minutes = 0, .keep = 2};
  EXPECT_EQ(space_problem({.checkpoint = 100'000'000, .database = 1'000'000}, two, 301'000'000), "");
  EXPECT_EQ(space_problem({.checkpoint = 100'000'000, .database = 1'000'000}, two, 300'999'999),
            "301.0 MB are free, and this job needs 1.0 MB for its database and 3 checkpoints of 100.0 MB; make room, or "
            "keep one (checkpoint: {keep: 1} in the sweep file)");
  const CheckpointPolicy one = {.every = 1, .minutes = 0, .keep = 1};
  EXPECT_EQ(space_problem({.checkpoint = 100'000'000, .database = 1'000'000}, one, 201'000'000), "");
  EXPECT_EQ(space_problem({.checkpoint = 100'000'000, .database = 1'000'000}, one, 200'999'999),
            "201.0 MB are free, and this job needs 1.0 MB for its database and 2 checkpoints of 100.0 MB; make room");
  EXPECT_EQ(space_problem({.checkpoint = 100'000'000, .database = 1'000'000}, two, 200'999'999),  // one is too much, too
            "201.0 MB are free, and this job needs 1.0 MB for its database and 3 checkpoints of 100.0 MB; make room");
  EXPECT_EQ(space_problem({.checkpoint = 100'000'000, .database = 1'000'000}, none, 1'000'000), "");
  EXPECT_EQ(space_problem({.checkpoint = 1, .database = 1'000'000}, none, 999'999),
            "1.0 MB are free, and this job needs 1.0 MB for its database; make room");
  constexpr auto kHuge = std::numeric_limits<std::uintmax_t>::max();
  EXPECT_NE(space_problem({.checkpoint = kHuge / 2, .database = 1}, two, kHuge), "");
  EXPECT_NE(space_problem({.checkpoint = kHuge / 3, .database = 9}, two, kHuge), "");
}

// A run that had room at its start has it when it is continued: what is there already is not asked for again.
TEST(Checkpointer, WhatIsOnTheDiskCounts) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "ckpt");
  struct statvfs disk = {};
  ASSERT_EQ(::statvfs(folder.path().c_str(), &disk), 0);
  const std::uintmax_t free = std::uintmax_t{disk.f_bavail} * disk.f_frsize;
  const CheckpointPolicy two = {.every = 1, .minutes = 0, .keep = 2};
  const auto probe = [&](double checkpoint, double database) {
    try {
      probe_run_folder(folder.path(),
                       {.checkpoint = static_cast<std::uintmax_t>(checkpoint * static_cast<double>(free)),
                        .database = static_cast<std::uintmax_t>(database * static_cast<double>(free))},
                       two);
    } catch (const Error&) {
      return false;
    }
    return true;
  };
  /// A file of that share of what is free, which takes no room.
  const auto put = [&](const std::string& name, double share) {
    std::ofstream(folder / name).close();
    std::filesystem::resize_file(folder / name, static_cast<std::uintmax_t>(share * static_cast<double>(free)));
  };
  EXPECT_FALSE(probe(0.4, 0.1));
  put("ckpt/step-000000003.ckpt", 0.4);
  EXPECT_TRUE(probe(0.4, 0.1));  // two more
  EXPECT_FALSE(probe(0.4, 0.3));
  put("ckpt/step-000000006.ckpt", 0.4);
  EXPECT_TRUE(probe(0.5, 0.1));  // one more, and what the two are smaller than the next
  EXPECT_FALSE(probe(0.6, 0.3));
  put("ckpt/step-000000009.ckpt", 0.4);  // more than are kept: the oldest goes only when the next is there
  EXPECT_FALSE(probe(0.6, 0.1));
  EXPECT_FALSE(probe(0.4, 0.7));
  put("run.db", 0.2);
  EXPECT_TRUE(probe(0.4, 0.7));
  EXPECT_FALSE(probe(0.4, 0.9));
}

TEST(Checkpointer, ProbeLeavesNothingAndNamesTheFolder) {
  const TempFolder folder;
  probe_run_folder(folder.path(), {.checkpoint = 1, .database = 1}, {});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THAT([&] { probe_run_folder(folder.path(), {.checkpoint = std::uintmax_t{1} << 60, .database = 1}, {}); },
              ::testing::ThrowsMessage<Error>(::testing::AllOf(HasSubstr(folder.path().string()), HasSubstr("are free"))));
  EXPECT_THAT([&] { probe_run_folder(folder / "none", {.checkpoint = 1, .database = 1}, {}); },
              ::testing::ThrowsMessage<Error>(HasSubstr("cannot be written")));
}

}  // namespace test_checkpointer
}  // namespace equisweep
