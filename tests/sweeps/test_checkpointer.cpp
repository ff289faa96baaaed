// When a run is saved, and whether there is room for it.
#include "sweeps/checkpointer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
            "301.0 MB are free, and this job needs 1.0 MB for its database and 3 checkpoints of 100.0 MB; make room, or do "
            "without checkpoints (checkpoint: {every: 0, minutes: 0} in the sweep file)");
  EXPECT_EQ(space_problem({.checkpoint = 100'000'000, .database = 1'000'000}, none, 1'000'000), "");
  EXPECT_EQ(space_problem({.checkpoint = 1, .database = 1'000'000}, none, 999'999),
            "1.0 MB are free, and this job needs 1.0 MB for its database; make room");
  constexpr auto kHuge = std::numeric_limits<std::uintmax_t>::max();
  EXPECT_NE(space_problem({.checkpoint = kHuge / 2, .database = 1}, two, kHuge), "");
  EXPECT_NE(space_problem({.checkpoint = kHuge / 3, .database = 9}, two, kHuge), "");
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
