// Devices are found, chosen and divided as documented.
#include "sweeps/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>

#include "core/error.h"

namespace equisweep {
namespace test_device {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string show(const std::vector<Device>& devices) {
  std::string text;
  for (const Device& d : devices) {
    text += d.name + "=" + d.visible + " " + std::to_string(d.slots) + "x" + std::to_string(d.threads) + ";";
  }
  return text;
}

TEST(Device, SlotsAndThreads) {
  const Machine cpu{.cores = 8}, four{.cores = 16, .cuda_devices = 4};
  const Machine outside{.cores = 4, .cuda_devices = 2, .visible = "GPU-aa,MIG-bb,5"};
  const auto expect = [](const Machine& machine, const DeviceOptions& options, std::size_t jobs, const char* devices) {
    EXPECT_EQ(show(find_devices(machine, options, jobs)), devices);
  };
  expect(cpu, {}, 100, "cpu= 8x1;");
  expect(cpu, {}, 3, "cpu= 3x2;");
  expect(cpu, {}, 0, "cpu= 1x8;");
  expect(cpu, {.jobs = 2}, 100, "cpu= 2x4;");
  expect(cpu, {.jobs = 3}, 100, "cpu= 3x2;");
  expect(cpu, {.jobs = 2}, 1, "cpu= 1x8;");
  expect(cpu, {.jobs = 20}, 100, "cpu= 20x1;");
  expect(cpu, {.jobs = INT_MAX}, 4, "cpu= 4x2;");
  expect(cpu, {.gpus = "none"}, 8, "cpu= 8x1;");
  expect(four, {}, 100, "cuda:0=0 1x4;cuda:1=1 1x4;cuda:2=2 1x4;cuda:3=3 1x4;");
  expect(four, {.slots_per_gpu = 2}, 100, "cuda:0=0 2x2;cuda:1=1 2x2;cuda:2=2 2x2;cuda:3=3 2x2;");
  expect(four, {}, 2, "cuda:0=0 1x8;cuda:1=1 1x8;cuda:2=2 1x8;cuda:3=3 1x8;");
  expect(four, {.gpus = "0,2-3"}, 100, "cuda:0=0 1x5;cuda:2=2 1x5;cuda:3=3 1x5;");
  expect(four, {.gpus = "3,1"}, 100, "cuda:3=3 1x8;cuda:1=1 1x8;");
  expect(four, {.jobs = 6}, 100, "cuda:0=0 2x2;cuda:1=1 2x2;cuda:2=2 1x2;cuda:3=3 1x2;");
  expect(four, {.jobs = 1, .gpus = "2-3"}, 100, "cuda:2=2 1x16;");
  expect(four, {.gpus = "none"}, 4, "cpu= 4x4;");
  expect(outside, {}, 9, "cuda:0=GPU-aa 1x2;cuda:1=MIG-bb 1x2;");
  expect(outside, {.gpus = "1"}, 9, "cuda:1=MIG-bb 1x4;");
  expect(outside, {.gpus = "GPU-aa"}, 9, "cuda:0=GPU-aa 1x4;");
  expect({.cores = 2, .cuda_devices = 0, .visible = ""}, {}, 9, "cpu= 2x1;");
}

TEST(Device, WrongChoicesAreRefused) {
  const Machine four{.cores = 4, .cuda_devices = 4}, none{.cores = 4};
  const auto refuses = [](const Machine& machine, const DeviceOptions& options, const char* message) {
    EXPECT_THAT([&] { find_devices(machine, options, 4); }, ThrowsMessage<UsageError>(HasSubstr(message)));
  };
  refuses(four, {.gpus = "4"}, "no device '4'; allowed: 0 to 3");
  refuses(four, {.gpus = "0-9999999"}, "no device");
  refuses(four, {.gpus = "0-99999999999999999999"}, "no device");
  refuses(four, {.gpus = "3-1"}, "backwards");
  refuses(four, {.gpus = "0-2,1"}, "twice");
  refuses(four, {.gpus = "0,"}, "no device ''");
  refuses(four, {.gpus = "-1"}, "no device '-1'");
  refuses(four, {.gpus = "1-"}, "no device '1-'");
  refuses(none, {.gpus = "0"}, "no CUDA device");
  refuses(four, {.jobs = 0}, "--jobs 0");
  refuses(none, {.jobs = -3}, "--jobs -3");
  refuses(none, {.slots_per_gpu = 0}, "slots_per_gpu 0");
}

TEST(Device, TheNameOfOneIsThatOfLibTorch) {
  EXPECT_EQ(checked_device("cpu"), "cpu");
  EXPECT_EQ(checked_device("cpu", 0), "cpu");
  EXPECT_EQ(checked_device("cuda", 1), "cuda:0");
  EXPECT_EQ(checked_device("cuda:0", 1), "cuda:0");
  EXPECT_EQ(checked_device("cuda:11", 12), "cuda:11");
}

TEST(Device, AnUnknownNameAndAGpuThatIsNotThereAreRefused) {
  const auto refuses = [](const std::string& name, int gpus, const std::string& message) {
    EXPECT_THAT([&] { checked_device(name, gpus); }, ThrowsMessage<UsageError>(HasSubstr(message))) << name;
  };
  for (const char* name : {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:0x", "cuda:1,2", "cuda0", " cuda",
                           "cuda:99999999999", "meta"})
    for (const int gpus : {0, 2}) refuses(name, gpus, "--device: unknown device '" + std::string(name) + "'; allowed: cpu");
  refuses("cuda", 0, "--device: no 'cuda': LibTorch finds no CUDA device here");
  refuses("cuda:0", 0, "no CUDA device");
  refuses("cuda:1", 1, "--device: no device 'cuda:1'; allowed: cpu, cuda or cuda:0");
  refuses("cuda:7", 4, "--device: no device 'cuda:7'; allowed: cpu, cuda (the first), or cuda:0 to cuda:3");
}

}  // namespace test_device
}  // namespace equisweep
