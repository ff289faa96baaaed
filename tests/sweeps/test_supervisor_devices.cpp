// Four pretended GPUs with two slots each: what every job sees, and what becomes of a GPU that has fallen off.
#include <gmock/gmock.h>

#include "sweeps/launcher/local.h"
#include "tests/support/fake_launcher.h"

namespace equisweep {
namespace test_supervisor_devices {

using fake::fake_job;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class SupervisorDevices : public fake::SupervisorTest {
 protected:
  void SetUp() override { four_gpus(2); }
  static std::vector<Job> twenty_jobs() {
    std::vector<Job> jobs;
    for (int i = 0; i < 20; ++i) jobs.push_back(fake_job(fmt::format("s{:02}", i), 0));
    return jobs;
  }
};

TEST_F(SupervisorDevices, EachJobSeesExactlyItsOwnDevice) {
  // As on a machine where CUDA_VISIBLE_DEVICES was set outside, to names of all three kinds.
  const Machine machine{.cores = 16, .cuda_devices = 4, .visible = "GPU-aa,MIG-bb,7,MIG-GPU-cc/3/0"};
  options_.devices = find_devices(machine, {.gpus = "0,2-3", .slots_per_gpu = 2}, 20);
  for (int i = 0; i < 20; ++i) launcher_.scripts[fmt::format("s{:02}", i)].seconds = 1 + i * 7 % 11;
  EXPECT_EQ(run(twenty_jobs()), ExitCode::ok);
  EXPECT_EQ(launcher_.most, (std::map<std::string, int>{{"GPU-aa", 2}, {"7", 2}, {"MIG-GPU-cc/3/0", 2}}));
  ASSERT_EQ(launcher_.specs.size(), 20u);
  const char* inherited[] = {"CUDA_VISIBLE_DEVICES=GPU-aa,MIG-bb,7,MIG-GPU-cc/3/0", nullptr};
  for (const WorkerSpec& spec : launcher_.specs) {
    EXPECT_EQ(spec.device, "cuda:0");  // whichever it is: the worker sees that one alone
    const std::vector<std::string> environment = worker_environment(spec, inherited);
    EXPECT_THAT(environment, Contains("CUDA_VISIBLE_DEVICES=" + spec.visible));
    EXPECT_EQ(std::count_if(environment.begin(), environment.end(),
                            [](const std::string& e) { return e.starts_with("CUDA_VISIBLE_DEVICES="); }),
              1);
    EXPECT_EQ(spec.threads, 2);  // 16 cores, 6 slots
  }
}

TEST_F(SupervisorDevices, ADeviceThatHasFallenOffIsTakenOutAndItsJobsRunElsewhere) {
  launcher_.broken = {"GPU-2"};
  EXPECT_EQ(run(twenty_jobs()), ExitCode::ok);
  EXPECT_EQ(db("SELECT DISTINCT state FROM runs"), "done;");
  EXPECT_THAT(said_,
              HasSubstr("cuda:2 is taken out: 3 jobs in a row failed at their start on it, the last with: exit 7; they "
                        "go back to the queue\n"));
  const auto on_broken = std::count_if(launcher_.specs.begin(), launcher_.specs.end(),
                                       [](const WorkerSpec& spec) { return spec.visible == "GPU-2"; });
  EXPECT_LE(on_broken, 4);  // three in a row, and the one that was on its other slot meanwhile
  EXPECT_GE(on_broken, 3);
}

TEST_F(SupervisorDevices, WhereNoDeviceIsLeftTheJobsWait) {
  launcher_.broken = {"GPU-0", "GPU-1", "GPU-2", "GPU-3"};
  EXPECT_EQ(run(twenty_jobs()), ExitCode::some_failed);
  EXPECT_THAT(said_, HasSubstr("and no device is left"));
  EXPECT_THAT(db("SELECT state || count(*) FROM runs GROUP BY state"), HasSubstr("queued"));
  EXPECT_LT(launcher_.starts.size(), 20u);  // the queue was not burnt
  launcher_.broken.clear();
  EXPECT_EQ(run(twenty_jobs()), ExitCode::ok);
}

TEST_F(SupervisorDevices, JobsThatFailEverywhereAreAtFaultAndNotTheDevices) {
  options_.retry = {.max = 1, .on = {RunState::failed}, .delay = 1};
  std::vector<Job> jobs = twenty_jobs();
  for (int i = 0; i < 8; ++i) {
    launcher_.scripts[jobs[static_cast<std::size_t>(i)].stack] = {
        .seconds = 1, .final_row = RunState::failed, .exit = {.code = 1}, .steps = 0};
  }
  EXPECT_EQ(run(jobs), ExitCode::some_failed);
  EXPECT_THAT(said_, Not(HasSubstr("taken out")));
  EXPECT_EQ(db("SELECT state || count(*) FROM runs GROUP BY state ORDER BY state"), "done12;failed8;");
}

TEST_F(SupervisorDevices, OnTheCpuOneFailureAfterTheOtherIsJustThat) {
  options_.devices = {{.name = "cpu", .visible = "", .slots = 1, .threads = 1}};
  launcher_.broken = {""};
  EXPECT_EQ(run(twenty_jobs()), ExitCode::some_failed);
  EXPECT_EQ(db("SELECT state || count(*) FROM runs GROUP BY state"), "failed20;");
}

}  // namespace test_supervisor_devices
}  // namespace equisweep
