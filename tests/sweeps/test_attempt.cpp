// One attempt: when a worker is told to stop, and what its end means.
#include "sweeps/attempt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sweeps/retry.h"

namespace equisweep {
namespace test_attempt {

using Due = AttemptWatch::Due;

TEST(Attempt, VerdictOnEveryEnd) {
  const WorkerExit ok{}, one{.code = 1}, preempted{.code = 75}, term{.signalled = true, .code = 15},
      kill{.signalled = true, .code = 9}, segv{.signalled = true, .code = 11};
  struct Case {
    RunState recorded;
    const char* message;
    WorkerExit exit;
    StopReason reason;
    const char* verdict;
  };
  const Case cases[] = {
      {RunState::done, "", ok, StopReason::none, "done: "},
      {RunState::done, "m", one, StopReason::none, "done: m; after its final row: exit 1"},
      {RunState::diverged, "", segv, StopReason::none, "diverged: after its final row: signal 11"},
      {RunState::failed, "m", one, StopReason::none, "failed: m"},
      {RunState::oom, "m", one, StopReason::none, "oom: m"},
      {RunState::oom, "m", segv, StopReason::none, "oom: m; after its final row: signal 11"},
      {RunState::preempted, "", preempted, StopReason::asked, "preempted: "},
      {RunState::preempted, "", preempted, StopReason::none, "preempted: "},
      {RunState::done, "", term, StopReason::asked, "done: "},
      {RunState::running, "", term, StopReason::asked, "preempted: why"},
      {RunState::running, "", kill, StopReason::asked, "preempted: why"},
      {RunState::running, "", preempted, StopReason::none, "preempted: stopped before its end"},
      {RunState::running, "", ok, StopReason::none, "failed: ended without a final row"},
      {RunState::running, "", one, StopReason::none, "failed: exit 1"},
      {RunState::running, "", segv, StopReason::none, "failed: killed by signal 11"},
      {RunState::running, "", kill, StopReason::none,
       "lost: killed by signal 9, which is often the system's answer to a lack of memory"},
      {RunState::running, "", term, StopReason::none, "preempted: ended by signal 15 before it could save anything"},
      // The reason for which it was stopped is what counts, except for a result.
      {RunState::preempted, "", preempted, StopReason::timeout, "timeout: why"},
      {RunState::running, "", kill, StopReason::timeout, "timeout: why"},
      {RunState::done, "", ok, StopReason::timeout, "done: "},
      {RunState::running, "", kill, StopReason::stalled, "lost: why"},
      {RunState::preempted, "", preempted, StopReason::cancelled, "cancelled: why"},
      {RunState::failed, "m", one, StopReason::cancelled, "cancelled: why"},
      {RunState::diverged, "m", ok, StopReason::cancelled, "diverged: m"},
  };
  for (const Case& c : cases) {
    const AttemptVerdict v = judge(c.recorded, c.message, c.exit, c.reason, "why");
    EXPECT_EQ(std::string(name_of(v.state)) + ": " + v.message, c.verdict);
  }
}

TEST(Attempt, TimeIsUp) {
  AttemptWatch watch(100, {.timeout = 60, .stall = 0, .grace = 10});
  EXPECT_EQ(watch.due(159.9), Due::nothing);
  EXPECT_EQ(watch.due(160), Due::ask);
  EXPECT_EQ(watch.due(160), Due::nothing);  // said once
  EXPECT_EQ(watch.reason(), StopReason::timeout);
  EXPECT_EQ(watch.why(), "took longer than 60 s");
  watch.heard(165);  // a sign of life does not help
  EXPECT_EQ(watch.due(169.9), Due::nothing);
  EXPECT_EQ(watch.due(170), Due::kill);
  EXPECT_EQ(watch.due(179.9), Due::nothing);
  EXPECT_EQ(watch.due(180), Due::give_up);
  EXPECT_EQ(watch.due(1e9), Due::nothing);
}

TEST(Attempt, NoSignOfLife) {
  AttemptWatch watch(0, {.timeout = 0, .stall = 60, .grace = 10});
  watch.heard(50);
  EXPECT_EQ(watch.due(109), Due::nothing);
  EXPECT_EQ(watch.due(110), Due::ask);
  EXPECT_EQ(watch.reason(), StopReason::stalled);
  EXPECT_EQ(watch.why(), "gave no sign of life for 60 s");
}

TEST(Attempt, TheDerivedLimitIsGenerous) {
  AttemptWatch watch(0, {});
  EXPECT_EQ(watch.due(1799), Due::nothing);
  EXPECT_EQ(watch.due(1800), Due::ask);
  AttemptWatch slow(0, {});
  slow.heard(200);  // so 4000 s of silence are nothing to wonder at
  EXPECT_EQ(slow.due(4199), Due::nothing);
  EXPECT_EQ(slow.due(4200), Due::ask);
}

TEST(Attempt, WhoIsAskedByAPersonMayTakeItsTime) {
  AttemptWatch asked(0, {.timeout = 50, .stall = 100, .grace = 10});
  asked.stop(StopReason::asked, false, 20);
  EXPECT_EQ(asked.due(60), Due::nothing);
  EXPECT_EQ(asked.due(119), Due::nothing);
  EXPECT_EQ(asked.due(120), Due::kill);  // but does not hang for ever
  EXPECT_EQ(asked.reason(), StopReason::asked);
  AttemptWatch killed(0, {.grace = 10});
  killed.stop(StopReason::asked, true, 20);
  EXPECT_EQ(killed.due(29), Due::nothing);
  EXPECT_EQ(killed.due(30), Due::give_up);
  AttemptWatch cancelled(0, {.grace = 10});
  cancelled.stop(StopReason::cancelled, false, 20);
  EXPECT_EQ(cancelled.due(30), Due::kill);
}

TEST(Retry, CountsUntilTheJobGetsFurther) {
  RetryCounter counter({.max = 2, .on = {RunState::lost}, .delay = 5});
  EXPECT_EQ(counter.next("a", RunState::failed, 0), std::nullopt);
  EXPECT_EQ(counter.next("a", RunState::lost, 3), 5);
  EXPECT_EQ(counter.next("b", RunState::lost, 0), 5);
  EXPECT_EQ(counter.next("a", RunState::lost, 3), 10);
  EXPECT_EQ(counter.next("a", RunState::lost, 3), std::nullopt);
  EXPECT_EQ(counter.next("a", RunState::lost, 4), 5);
  counter.forget("b");
  EXPECT_EQ(counter.next("b", RunState::lost, 0), 5);
  EXPECT_EQ(retry_delay({.delay = 5}, 6), 160);
  EXPECT_EQ(retry_delay({.delay = 5}, 7), 300);
  EXPECT_EQ(retry_delay({.delay = 5}, 1 << 30), 300);
  EXPECT_EQ(retry_delay({.delay = 0}, 9), 0);
}

}  // namespace test_attempt
}  // namespace equisweep
