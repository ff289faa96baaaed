#include "core/fault_point.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

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

std::string all_sources() {
  std::string text;
  const std::filesystem::path root = EQUISWEEP_SOURCE_DIR;
  for (const char* folder : {"core", "models", "optimizers", "analysis", "sweeps"})
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder))
      if (entry.path().extension() == ".cpp" && entry.path().filename() != "fault_point.cpp")
        text += (std::stringstream() << std::ifstream(entry.path()).rdbuf()).str();
  return text;
}

// A point that nothing passes would be accepted, and the fault would never come.
TEST_F(FaultPoint, EveryPointIsPassedSomewhere) {
  std::string points;
  try {
    arm_faults("nowhere:1");
  } catch (const UsageError& e) {
    points = e.what();
  }
  const std::size_t begin = points.find("points: ");
  ASSERT_NE(begin, std::string::npos) << points;
  std::istringstream names(points.substr(begin + 8));
  const std::string sources = all_sources();
  int count = 0;
  for (std::string name; std::getline(names >> std::ws, name, ','); ++count) {
    // Those of a file that appears whole are its stages: pass("open") with the prefix that the file was given.
    const std::string stage = name.substr(name.find('.') + 1);
    const bool passed = sources.find("fault_point(\"" + name + "\")") != std::string::npos ||
                        (name.starts_with("checkpoint.") && sources.find("pass(\"" + stage + "\")") != std::string::npos);
    EXPECT_TRUE(passed) << name;
  }
  EXPECT_GT(count, 10);
}

}  // namespace test_fault_point
}  // namespace equisweep
