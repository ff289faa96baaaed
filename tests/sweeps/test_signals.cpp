// Which signals are caught, and what is left as it was.
#include "sweeps/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

namespace equisweep {
namespace test_signals {

using Handler = void (*)(int);

Handler disposition(int number) {
  struct sigaction now {};
  ::sigaction(number, nullptr, &now);
  return now.sa_handler;
}

class Signals : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const int number : kTouched) ::sigaction(number, nullptr, &before_[static_cast<std::size_t>(number)]);
  }
  void TearDown() override {
    for (const int number : kTouched) ::sigaction(number, &before_[static_cast<std::size_t>(number)], nullptr);
  }
  static constexpr int kTouched[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD};
  struct sigaction before_[64] = {};
};

TEST_F(Signals, EachAsksForItsStageAndEverythingIsAsBeforeAfterwards) {
  for (const int number : kTouched) ::signal(number, SIG_DFL);
  for (const auto& [number, stage] :
       {std::pair{SIGINT, Interrupt::drain}, {SIGTERM, Interrupt::stop}, {SIGHUP, Interrupt::stop}}) {
    const CaughtSignals caught;
    EXPECT_EQ(caught.stage(), Interrupt::none);
    ::raise(number);
    EXPECT_EQ(caught.stage(), stage);
    EXPECT_EQ(caught.signal(), number);
    ::raise(SIGPIPE);
  }
  for (const int number : kTouched) EXPECT_EQ(disposition(number), SIG_DFL) << number;
}

// `nohup equisweep run FILE &` in a script: its shell ignores SIGINT for what it starts in the background, nohup SIGHUP.
TEST_F(Signals, WhatWasIgnoredStaysIgnored) {
  for (const int number : kTouched) ::signal(number, SIG_IGN);
  {
    const CaughtSignals caught;
    ::raise(SIGHUP);
    ::raise(SIGINT);
    EXPECT_EQ(caught.stage(), Interrupt::none);
    ::raise(SIGTERM);  // `kill` is meant for it in any case
    EXPECT_EQ(caught.stage(), Interrupt::stop);
  }
  for (const int number : kTouched) EXPECT_EQ(disposition(number), SIG_IGN) << number;
}

// With SIGCHLD ignored the system forgets children that end, and nobody learns how.
TEST_F(Signals, ChildrenCanBeWaitedFor) {
  ::signal(SIGCHLD, SIG_IGN);
  const CaughtSignals caught;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(7);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

}  // namespace test_signals
}  // namespace equisweep
