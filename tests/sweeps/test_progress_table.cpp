// What the table shows, drawn on a screen that understands the few sequences that it may use.
#include "sweeps/progress_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sweeps/supervisor.h"
#include "tests/support/screen.h"

namespace equisweep {
namespace test_progress_table {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Job job(const std::string& id, const std::string& stack = "adamw") {
  Job j;
  j.id = id;
  j.model = "qwen3-nano";
  j.stack = stack;
  j.lr_scale = 0.5;
  j.seed = 3;
  return j;
}

TEST(ProgressTable, Durations) {
  EXPECT_EQ(duration_text(0), "0 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(59.6), "1 min 00 s");
  EXPECT_EQ(duration_text(3725), "1 h 02 min");
  EXPECT_EQ(duration_text(90000), "1 d 1 h");
  EXPECT_EQ(duration_text(-1), "?");
  EXPECT_EQ(duration_text(1.0 / 0.0), "?");
}

TEST(ProgressTable, FitCutsCharactersAndNotBytes) {
  EXPECT_EQ(fit("abc", 3), "abc");
  EXPECT_EQ(fit("abcd", 3), "ab\u2026");
  EXPECT_EQ(fit("\u00e4\u00f6\u00fc", 3), "\u00e4\u00f6\u00fc");
  EXPECT_EQ(fit("\u00e4\u00f6\u00fcx", 3), "\u00e4\u00f6\u2026");
  EXPECT_THAT(fit("\x1b[2J", 80), Not(HasSubstr("\x1b")));
  EXPECT_EQ(fit("abc", 0), "");
}

// The loss that was reported last is of a step before; of the run that is a result of its own there is none.
TEST(ProgressTable, ARunThatHasDivergedHasNoLoss) {
  Screen pipe(80, 24, false);
  ProgressTable table(pipe, 0);
  for (const RunState state : {RunState::done, RunState::diverged}) {
    table.started(1, job("a"), "cpu", 1, 0);
    table.progressed(1, {.step = 4, .steps = 12, .loss = 3.25, .tokens_per_second = 51000, .phase = "train"});
    table.ended(1, state, state == RunState::done ? "" : "loss is nan at step 5", 2);
  }
  const std::string about = "  a  qwen3-nano  adamw  lr x0.5  seed 3  ";
  EXPECT_EQ(pipe.written(), "start" + about + "on cpu\ndone" + about + "after 2 s  loss 3.2500\nstart" + about +
                                "on cpu\ndiverged" + about + "after 2 s  loss is nan at step 5\n");
}

TEST(ProgressTable, LiveTableIsDrawnInPlace) {
  Screen screen(110, 24);
  {
    ProgressTable table(screen, 0);
    table.expect(4);
    table.already();
    table.started(1, job("a"), "cuda:0", 1, 0);
    table.started(2, job("b", "muon"), "cuda:1", 1, 0);
    table.progressed(1, {.step = 75, .steps = 300, .loss = 3.25, .tokens_per_second = 51000, .phase = "train"});
    table.draw(10);
    ASSERT_EQ(screen.lines().size(), 3u);
    EXPECT_EQ(screen.lines()[0], "1 of 4 done, 2 running, 1 queued; 10 s, about 1 min 50 s left");  // 0.25 of 3 jobs in 10 s
    EXPECT_THAT(screen.lines()[1], HasSubstr("train"));
    EXPECT_THAT(screen.lines()[1], HasSubstr("qwen3-nano  adamw  lr x0.5  seed 3"));
    EXPECT_THAT(screen.lines()[1], HasSubstr("75/300   3.2500   51k tok/s         30 s  cuda:0"));
    const std::size_t written = screen.written().size();
    table.draw(10.1);  // too soon
    EXPECT_EQ(screen.written().size(), written);
    table.ended(1, RunState::done, "", 11);
    table.draw(11);
    EXPECT_EQ(screen.lines().size(), 2u);
    table.ended(2, RunState::failed, "exit 1", 12);
    table.draw(12);
    EXPECT_THAT(screen.lines(), ElementsAre("failed  b  qwen3-nano  muon  lr x0.5  seed 3  after 12 s  exit 1",
                                            "2 of 4 done, 0 running, 1 queued, 1 failed; 12 s, about 6 s left"));
  }
  EXPECT_EQ(screen.lines().size(), 1u);  // what was said stays, the table is gone
}

TEST(ProgressTable, StaysWithinTheWindow) {
  for (const int width : {1, 5, 20, 40, 79, 200}) {
    for (const int height : {1, 2, 5, 50}) {
      Screen screen(width, height);
      ProgressTable table(screen, 0);
      table.expect(20);
      for (int i = 1; i <= 12; ++i) {
        table.started(i, job(std::to_string(i), "a very long name of a stack that nobody would type \x1b[31m"), "cuda:0", 1,
                      0);
        table.progressed(
            i, {.step = INT64_MAX, .steps = INT64_MAX, .loss = -1e300, .tokens_per_second = 1e300, .phase = "evaluating"});
      }
      for (const std::string& line : table.lines(1e12)) {
        EXPECT_LE(
            std::count_if(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }),
            std::max(1, width - 1))
            << line;
        EXPECT_THAT(line, Not(HasSubstr("\x1b")));
      }
      EXPECT_LE(static_cast<int>(table.lines(1).size()), std::max(2, height - 1));
    }
  }
}

TEST(ProgressTable, PipeGetsPlainLines) {
  Screen pipe(80, 24, false);
  {
    ProgressTable table(pipe, 100);
    table.expect(2);
    table.started(1, job("a"), "cpu", 2, 100);
    for (double now = 100; now < 125; now += 0.2) table.draw(now);
    table.progressed(1, {.step = 1, .steps = 2, .loss = 2.5});
    table.ended(1, RunState::done, "", 125);
  }
  EXPECT_THAT(pipe.lines(), ElementsAre("start  a  qwen3-nano  adamw  lr x0.5  seed 3  on cpu, attempt 2",
                                        "0 of 2 done, 1 running, 1 queued; 10 s", "0 of 2 done, 1 running, 1 queued; 20 s",
                                        "done  a  qwen3-nano  adamw  lr x0.5  seed 3  after 25 s  loss 2.5000"));
  EXPECT_THAT(pipe.written(), Not(HasSubstr("\x1b")));
}

TEST(ProgressTable, AWindowThatChangesItsSizeIsDrawnAnew) {
  Screen screen(100, 24);
  ProgressTable table(screen, 0);
  table.expect(3);
  table.say("said before");
  for (int i = 1; i <= 3; ++i) table.started(i, job(std::to_string(i)), "cpu", 1, 0);
  double now = 0;
  for (const int width : {100, 60, 25, 99, 40, 120}) {
    screen.resize(width);  // the terminal wraps what is too long now
    table.draw(now += 1);
    ASSERT_EQ(screen.lines().size(), 5u) << width;
    EXPECT_EQ(screen.lines()[0], "said before");
    EXPECT_THAT(screen.lines()[1], HasSubstr("0 of 3 done, 3 running"));
    for (const std::string& line : screen.lines()) EXPECT_LT(line.size(), static_cast<std::size_t>(width) + 3);
  }
  screen.resize(30);
  table.finish();
  EXPECT_THAT(screen.lines(), ElementsAre("said before"));
}

TEST(ProgressTable, HundredsOfJobsDoNotFloodTheScreen) {
  Screen screen(100, 24);
  ProgressTable table(screen, 0);
  table.expect(900);
  for (int i = 0; i < 400; ++i) table.started(i, job(std::to_string(i)), "cpu", 1, 0);
  table.draw(1);
  EXPECT_LE(screen.lines().size(), 23u);
  EXPECT_THAT(screen.lines().back(), HasSubstr("and 379 more"));
  for (int i = 0; i < 300; ++i) table.ended(i, RunState::failed, "exit 1", 2);
  table.draw(2);
  EXPECT_LE(screen.lines().size(), 23u + 31u);
  EXPECT_THAT(screen.written(), HasSubstr("the summary and the database have them all"));
  EXPECT_THAT(screen.lines()[31], HasSubstr("0 of 900 done, 100 running, 500 queued, 300 failed"));
}

TEST(ProgressTable, CountsWhatIsPutBackOrCancelled) {
  Screen screen(100, 24);
  ProgressTable table(screen, 0);
  table.expect(4);
  table.left_out(RunState::cancelled);
  table.started(1, job("a"), "cpu", 1, 0);
  table.put_back(1, RunState::lost, "killed", 5);
  table.draw(6);
  EXPECT_THAT(screen.lines().back(), HasSubstr("0 of 4 done, 0 running, 3 queued, 1 cancelled; 6 s"));
  table.started(2, job("a"), "cpu", 2, 6);
  table.ended(2, RunState::failed, "exit 1", 7);
  table.reopened(RunState::failed);
  table.reopened(RunState::cancelled);
  table.draw(8);
  EXPECT_EQ(screen.lines().back(), "0 of 4 done, 0 running, 4 queued; 8 s");
}

}  // namespace test_progress_table
}  // namespace equisweep
