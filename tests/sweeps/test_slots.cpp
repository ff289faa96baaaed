// Slots: given once, by turns, and no longer on a device that fails whatever starts on it.
#include "sweeps/slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace equisweep {
namespace test_slots {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<Device> gpus(int count, int slots) {
  std::vector<Device> devices;
  for (int i = 0; i < count; ++i) devices.push_back({"cuda:" + std::to_string(i), std::to_string(i), slots, 1});
  return devices;
}

const Device* take(Slots& slots) {
  const Device* device = slots.next();
  if (device != nullptr) slots.take();
  return device;
}

TEST(Slots, EachOnceAndTheDevicesByTurns) {
  Slots slots(gpus(3, 2));
  std::vector<std::string> names;
  std::vector<const Device*> taken;
  while (const Device* device = take(slots)) {
    names.push_back(device->name);
    taken.push_back(device);
  }
  EXPECT_THAT(names, ElementsAre("cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1", "cuda:2"));
  slots.give_back(taken[4]);
  slots.give_back(taken[0]);
  EXPECT_EQ(take(slots)->name, "cuda:1");
  EXPECT_EQ(take(slots)->name, "cuda:0");
  EXPECT_EQ(take(slots), nullptr);
}

TEST(Slots, ADeviceThatFailsThreeJobsInARowIsTakenOut) {
  Slots slots(gpus(2, 2));
  const Device *a = take(slots), *b = take(slots);
  EXPECT_THAT(slots.failed_at_start(a, "x").jobs, IsEmpty());
  EXPECT_THAT(slots.failed_at_start(a, "x").jobs, IsEmpty());  // the same job again says nothing new
  EXPECT_THAT(slots.failed_at_start(a, "y").jobs, IsEmpty());
  slots.worked(a);
  EXPECT_THAT(slots.failed_at_start(a, "p").jobs, IsEmpty());
  EXPECT_THAT(slots.failed_at_start(a, "q").jobs, IsEmpty());
  const Slots::Blame blame = slots.failed_at_start(a, "r");
  EXPECT_TRUE(blame.taken_out);
  EXPECT_THAT(blame.jobs, ElementsAre("p", "q", "r"));
  slots.give_back(a);
  slots.give_back(b);
  EXPECT_TRUE(slots.any());
  EXPECT_EQ(take(slots), b);
  EXPECT_EQ(take(slots), b);
  EXPECT_EQ(take(slots), nullptr);
  const Slots::Blame late = slots.failed_at_start(a, "z");  // which ran on the other slot
  EXPECT_FALSE(late.taken_out);
  EXPECT_THAT(late.jobs, ElementsAre("z"));
}

TEST(Slots, AJobThatFailsOnTwoDevicesIsItselfAtFault) {
  Slots slots(gpus(2, 1));
  const Device *a = take(slots), *b = take(slots);
  for (const char* job : {"x", "y"}) EXPECT_THAT(slots.failed_at_start(a, job).jobs, IsEmpty());
  EXPECT_THAT(slots.failed_at_start(b, "x").jobs, IsEmpty());
  EXPECT_THAT(slots.failed_at_start(a, "z").jobs, IsEmpty());  // y and z: x no longer counts
  EXPECT_THAT(slots.failed_at_start(a, "w").jobs, ElementsAre("y", "z", "w"));
}

TEST(Slots, TheCpuIsNeverTakenOut) {
  Slots slots({{"cpu", "", 1, 1}});
  for (const char* job : {"a", "b", "c", "d"}) EXPECT_THAT(slots.failed_at_start(slots.next(), job).jobs, IsEmpty());
  EXPECT_TRUE(slots.any());
}

}  // namespace test_slots
}  // namespace equisweep
