// How many jobs at a time are fastest: what is tried, measured, kept and found again. All times here are made up.
#include "sweeps/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/run_store.h"
#include "sweeps/job.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_packing {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::vector<std::pair<int, int>> shapes(const std::vector<Packing>& packings) {
  std::vector<std::pair<int, int>> out;
  for (const Packing& p : packings) out.emplace_back(p.jobs, p.threads);
  return out;
}

TEST(Packing, TriesHalvingsThatFillTheCoresAndNeverMore) {
  using Shapes = std::vector<std::pair<int, int>>;
  EXPECT_EQ(shapes(packings_to_try(1)), (Shapes{{1, 1}}));
  EXPECT_EQ(shapes(packings_to_try(2)), (Shapes{{2, 1}, {1, 2}}));
  EXPECT_EQ(shapes(packings_to_try(6)), (Shapes{{6, 1}, {3, 2}, {1, 6}}));
  EXPECT_EQ(shapes(packings_to_try(16)), (Shapes{{16, 1}, {8, 2}, {4, 4}, {2, 8}, {1, 16}}));
  for (int cores = 1; cores <= 200; ++cores)
    for (const Packing& p : packings_to_try(cores)) EXPECT_LE(p.jobs * p.threads, cores);
}

ModelPackings measured(const std::string& model, std::int64_t parameters, std::vector<Packing> packings) {
  return {.model = model, .parameters = parameters, .packings = std::move(packings)};
}

const ModelPackings kSmallOne = measured("qwen3-nano", 200'000, {{2, 1, 110, 100, 120}, {1, 2, 90, 80, 95}});
const ModelPackings kLargeOne = measured("qwen3-small", 9'000'000, {{2, 1, 10, 9, 11}, {1, 2, 12, 11, 13}});

TEST(Packing, TheBestHasTheHighestMedianAndOfEqualOnesMoreJobs) {
  EXPECT_EQ(kSmallOne.best().jobs, 2);
  EXPECT_EQ(kLargeOne.best().jobs, 1);
  EXPECT_EQ(measured("m", 1, {{1, 4, 7, 7, 7}, {4, 1, 7, 7, 7}, {2, 2, 7, 7, 7}}).best().jobs, 4);
}

TEST(Packing, AnUnmeasuredModelGoesByTheOneNearestInSize) {
  const MachinePackings known{.cpu = "a cpu", .cores = 2, .models = {kSmallOne, kLargeOne}};
  EXPECT_EQ(jobs_at_a_time(known, "a cpu", 2, 100'000), 2);
  EXPECT_EQ(jobs_at_a_time(known, "a cpu", 2, 1'300'000), 2);  // nearer by ratio: 6.5 against 6.9 times
  EXPECT_EQ(jobs_at_a_time(known, "a cpu", 2, 1'400'000), 1);
  EXPECT_EQ(jobs_at_a_time(known, "a cpu", 2, 900'000'000), 1);
  EXPECT_EQ(jobs_at_a_time(known, "another cpu", 2, 100'000), std::nullopt);
  EXPECT_EQ(jobs_at_a_time(known, "a cpu", 4, 100'000), std::nullopt);
  EXPECT_EQ(jobs_at_a_time(std::nullopt, "a cpu", 2, 100'000), std::nullopt);
}

/// Jobs that end at once, with the step times that the test says for their number of threads; the first three steps take
/// longer, as real ones do.
struct InstantJobs : Launcher {
  std::map<int, std::vector<double>> seconds;  ///< of the steps after the third, by threads
  RunState end = RunState::done;
  std::vector<int> started;  ///< threads of each job

  WorkerId start(const WorkerSpec& spec) override {
    started.push_back(spec.threads);
    nlohmann::json config;
    std::ifstream(spec.folder / "config.yaml") >> config;
    RunStore store(spec.folder / "run.db", spec.folder.filename().string(), canonical(config), {.started_at = "then"});
    std::int64_t step = 0;
    for (int i = 0; i < 3; ++i) store.add(StepRow{.step = ++step, .step_seconds = 100});
    for (const double s : seconds.at(spec.threads)) store.add(StepRow{.step = ++step, .step_seconds = s});
    store.add(EvalRow{.step = step, .loss = 1});
    store.finish({.state = end, .message = end == RunState::done ? "" : "made to fail"});
    return ++last_;
  }
  std::vector<WorkerNews> wait(std::chrono::milliseconds) override {
    std::vector<WorkerNews> news;
    while (told_ < last_) news.push_back({.worker = ++told_, .exit = WorkerExit{.code = end == RunState::done ? 0 : 1}});
    return news;
  }
  void abort(WorkerId, Abort) override {}

 private:
  WorkerId last_ = 0, told_ = 0;
};

struct Signals : Interrupts {
  Interrupt now = Interrupt::none;
  Interrupt stage() const override { return now; }
  int signal() const override { return 15; }
};

TEST(Packing, SpeedsAreTheTokensOfAllJobsOverTheMedianOfTheirSteps) {
  InstantJobs jobs;
  jobs.seconds = {{1, {2, 1, 9}}, {2, {0.5, 0.25, 0.75}}};
  std::vector<std::string> said;
  const ModelPackings found =
      measure_packings("qwen3-nano", 2, 3, 6, jobs, Signals(), [&](const std::string& line) { said.push_back(line); });
  EXPECT_EQ(found.model, "qwen3-nano");
  EXPECT_EQ(found.parameters, 188'864);  // vocabulary 2 x 512 x 64, layers 2 x (64 (384 + 3 x 192) + 64 + 128), last norm 64
  EXPECT_THAT(found.packings, ElementsAre(Packing{2, 1, 2 * 4096 / 2.0, 4096, 4096}, Packing{1, 2, 4096 / 0.5, 8192, 8192}));
  EXPECT_THAT(jobs.started, ElementsAre(1, 1, 2, /*backwards*/ 2, 1, 1, /*forwards*/ 1, 1, 2));
  EXPECT_EQ(said.size(), 6U);
}

TEST(Packing, AFailureOrASignalEndsTheMeasurementWithTheReason) {
  InstantJobs failing;
  failing.seconds = {{1, {1}}, {2, {1}}};
  failing.end = RunState::failed;
  const auto measure = [](InstantJobs& jobs, const Signals& signals) {
    measure_packings("qwen3-nano", 2, 1, 4, jobs, signals, [](const std::string&) {});
  };
  EXPECT_THAT([&] { measure(failing, {}); }, ThrowsMessage<Error>(HasSubstr("made to fail")));
  InstantJobs never;
  Signals stop;
  stop.now = Interrupt::stop;
  EXPECT_THAT([&] { measure(never, stop); }, ThrowsMessage<Error>(HasSubstr("stopped")));
  EXPECT_TRUE(never.started.empty());
  EXPECT_THAT([] { measure_packings("qwen3-giant", 1, 1, 4, *std::make_unique<InstantJobs>(), Signals(), {}); },
              ThrowsMessage<UsageError>(HasSubstr("qwen3-giant")));
}

TEST(Packing, WhatWasMeasuredIsKept) {
  const TempFolder folder;
  const auto file = packing_file(folder.path() / "results");
  EXPECT_EQ(read_packings(file), std::nullopt);
  const MachinePackings first{.cpu = "a cpu", .cores = 2, .models = {kLargeOne}};
  write_packings(file, first);
  EXPECT_EQ(read_packings(file), first);

  const MachinePackings both = with_packings(first, {.cpu = "a cpu", .cores = 2, .models = {kSmallOne}});
  EXPECT_THAT(both.models, ElementsAre(kSmallOne, kLargeOne));
  const ModelPackings again = measured("qwen3-small", 9'000'000, {{2, 1, 15, 15, 15}, {1, 2, 12, 12, 12}});
  EXPECT_THAT(with_packings(both, {.cpu = "a cpu", .cores = 2, .models = {again}}).models, ElementsAre(kSmallOne, again));
  const MachinePackings elsewhere{.cpu = "another cpu", .cores = 2, .models = {kSmallOne}};
  EXPECT_EQ(with_packings(both, elsewhere), elsewhere);
}

TEST(Packing, AFileThatSaysSomethingElseIsRefusedByName) {
  const TempFolder folder;
  const auto file = folder.path() / "packing.json";
  for (
      const char* text :
      {"", "{", "[]", R"({"cpu": "c", "cores": 0, "models": []})", R"({"cpu": "c", "cores": 1e300, "models": []})",
       R"({"cpu": 3, "cores": 2, "models": []})",
       R"({"cpu": "c", "cores": 2, "models": [{"model": "m", "parameters": 5, "packings": []}]})",
       R"({"cpu": "c", "cores": 2, "models": [{"model": "m", "parameters": 5, "packings": [{"jobs": -1, "threads": 1, "tokens_per_second": 1, "lowest": 1, "highest": 1}]}]})",
       R"({"cpu": "c", "cores": 2, "models": [{"model": "m", "parameters": 5, "packings": [{"jobs": 1, "threads": 1, "tokens_per_second": 0, "lowest": 1, "highest": 1}]}]})"}) {
    std::ofstream(file, std::ios::trunc) << text;
    EXPECT_THAT([&] { read_packings(file); }, ThrowsMessage<Error>(HasSubstr("packing.json"))) << text;
    EXPECT_THAT([&] { read_packings(file); }, ThrowsMessage<Error>(HasSubstr("doctor --tune"))) << text;
  }
  std::ofstream(file, std::ios::trunc) << R"({"cpu": "c", "cores": 2, "models": [], "more": )" << std::string(65, '[')
                                       << std::string(65, ']') << "}";
  EXPECT_THAT([&] { read_packings(file); }, ThrowsMessage<Error>(HasSubstr("nested more than 64 deep")));
}

}  // namespace test_packing
}  // namespace equisweep
