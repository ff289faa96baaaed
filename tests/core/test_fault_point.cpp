#include "core/fault_point.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>

#include "core/error.h"

namespace equisweep {
namespace test_fault_point {

class FaultPoint : public ::testing::Test {
 protected:
  ~FaultPoint() override { arm_faults(""); }
};

TEST_F(FaultPoint, HappensAtItsPassAndOnlyThen) {
  arm_faults("train.loss:3=nan,train.gradient:1=inf,checkpoint.write:2=enospc");
  for (const Fault expected : {Fault::none, Fault::none, Fault::nan, Fault::none})
    EXPECT_EQ(fault_point("train.loss"), expected);
  EXPECT_EQ(fault_point("train.gradient"), Fault::inf);
  EXPECT_EQ(fault_errno("checkpoint.write"), 0);
  EXPECT_EQ(fault_errno("checkpoint.write"), ENOSPC);
  EXPECT_EQ(fault_errno("checkpoint.write"), 0);
  arm_faults("");
  EXPECT_EQ(fault_point("train.gradient"), Fault::none);
}

TEST_F(FaultPoint, RaisesKillsAndTerminates) {
  arm_faults("train.step:1=raise");
  EXPECT_THROW(fault_point("train.step"), Error);
  EXPECT_EXIT(
      {
        arm_faults("train.step:2");
        fault_point("train.step");
        fault_point("train.step");
      },
      ::testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(
      {
        arm_faults("train.step:1=term");
        fault_point("train.step");
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

TEST_F(FaultPoint, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"train.step", "train.step:", "train.step:0", "train.step:-1", "train.step:1x", "train.setp:1",
                           "train.step:1=flood", ",", "train.step:1,", "train.step:99999999999999999999"}) {
    EXPECT_THROW(arm_faults(text), UsageError) << text;
    EXPECT_EQ(fault_point("train.step"), Fault::none);
  }
}

}  // namespace test_fault_point
}  // namespace equisweep
