// Keys of a sweep file that are no part of a job: tags, tune, retry, checkpoint, resources, report.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_settings {

using ::testing::ElementsAre;

const std::string kWithoutSeeds = changed(", seed: [0, 1]}", "}");

TEST(Settings, HaveDefaults) {
  const SweepSpec spec = read_sweep(kSmallSweep, "f");
  EXPECT_TRUE(spec.tags.empty());
  EXPECT_FALSE(spec.tune);
  EXPECT_EQ(spec.retry.max, 2);
  EXPECT_EQ(spec.retry.on, (std::set{RunState::lost, RunState::preempted}));
  EXPECT_FALSE(spec.checkpoint.every);
  EXPECT_EQ(spec.checkpoint.minutes, 10);
  EXPECT_EQ(spec.checkpoint.keep, 2);
  EXPECT_FALSE(spec.resources.gpus || spec.resources.threads || spec.resources.minutes);
  EXPECT_EQ(spec.resources.slots_per_gpu, 1);
  EXPECT_EQ(spec.report, nlohmann::json({{"figures", true}}));
}

TEST(Settings, AreRead) {
  const SweepSpec spec =
      read_sweep(kWithoutSeeds +
                     "tags: [vocabulary, 'first try']\n"
                     "tune: {select: lowest_mean, seeds: {range: [0, 2]}, confirm_seeds: [10, 11], extend: 2}\n"
                     "retry: {max: 3, on: [oom, timeout]}\n"
                     "checkpoint: {every: 100, minutes: 2.5, keep: 4}\n"
                     "resources: {gpus: 0, slots_per_gpu: 3, threads: 2, minutes: 30}\n"
                     "report: {title: Vocabulary, figures: false}\n",
                 "f");
  EXPECT_THAT(spec.tags, ElementsAre("vocabulary", "first try"));
  EXPECT_THAT(spec.tune->seeds, ElementsAre(0, 1, 2));
  EXPECT_THAT(spec.tune->confirm_seeds, ElementsAre(10, 11));
  EXPECT_EQ(spec.tune->extend, 2);
  EXPECT_EQ(spec.retry.max, 3);
  EXPECT_EQ(spec.retry.on, (std::set{RunState::oom, RunState::timeout}));
  EXPECT_EQ(spec.checkpoint.every, 100);
  EXPECT_EQ(spec.checkpoint.minutes, 2.5);
  EXPECT_EQ(spec.checkpoint.keep, 4);
  EXPECT_EQ(spec.resources.gpus, 0);
  EXPECT_EQ(spec.resources.slots_per_gpu, 3);
  EXPECT_EQ(spec.resources.threads, 2);
  EXPECT_EQ(spec.resources.minutes, 30);
  EXPECT_EQ(spec.report, nlohmann::json({{"title", "Vocabulary"}, {"figures", false}}));
}

TEST(Settings, OneValueMayStandForAList) {
  const SweepSpec spec =
      read_sweep(kWithoutSeeds + "tags: one\nretry: {on: oom}\ntune: {seeds: 4, confirm_seeds: 5}\n", "f");
  EXPECT_THAT(spec.tags, ElementsAre("one"));
  EXPECT_TRUE(read_sweep(kSmallSweep + "tags: []\n", "f").tags.empty()) << "the default, written out";
  EXPECT_EQ(spec.retry.on, std::set{RunState::oom});
  EXPECT_THAT(spec.grid.seeds, ElementsAre(4));
}

TEST(Settings, AreNoPartOfAJob) {
  const auto id = [](const std::string& more) { return expand(read_sweep(kSmallSweep + more, "f"))[0].id; };
  const std::string plain = id("");
  for (const char* line :
       {"tags: [a]\n", "retry: {max: 0}\n", "checkpoint: {every: 5}\n", "resources: {gpus: 0}\n", "report: {title: T}\n"})
    EXPECT_EQ(id(line), plain) << line;
  // A job that tunes is the job of the plain grid.
  const SweepSpec tuned = read_sweep(kWithoutSeeds + "tune: {seeds: [0], confirm_seeds: [1]}\n", "f");
  EXPECT_EQ(expand(tuned)[0].id, plain);
}

TEST(Settings, DeterministicIsPartOfAJobWhereItIsOn) {
  const auto id = [](const std::string& train) { return expand(read_sweep(changed("steps: 10", train), "f"))[0].id; };
  EXPECT_EQ(id("steps: 10, deterministic: false"), id("steps: 10"));
  EXPECT_NE(id("steps: 10, deterministic: true"), id("steps: 10"));
}

struct SettingCase {
  const char* name;
  std::string text, message;
};

void PrintTo(const SettingCase& c, std::ostream* out) { *out << c.name; }

class RefusedSetting : public ::testing::TestWithParam<SettingCase> {};

TEST_P(RefusedSetting, IsNamedWithItsPlace) { expect_message(errors_of(GetParam().text), GetParam().message); }

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedSetting,
    ::testing::Values(
        SettingCase{"tune_without_fresh_seeds", kWithoutSeeds + "tune: {seeds: [0]}\n",
                    "f:11:7: key 'tune.confirm_seeds' is missing; allowed: an integer >= 0 and <= 9007199254740991"},
        SettingCase{
            "seeds_in_both", kWithoutSeeds + "tune: {seeds: [0, 1], confirm_seeds: [1, 2]}\n",
            "f:11:23: tune.confirm_seeds: 1 is one of tune.seeds, so a choice has seen it; allowed: seeds that are not "
            "among tune.seeds"},
        SettingCase{
            "default_seed_in_both", kWithoutSeeds + "tune: {confirm_seeds: [0]}\n",
            "f:11:8: tune.confirm_seeds: 0 is one of tune.seeds, so a choice has seen it; allowed: seeds that are not "
            "among tune.seeds"},
        SettingCase{
            "seeds_of_the_grid", kSmallSweep + "tune: {confirm_seeds: [7]}\n",
            "f:5:67: grid.seed: tune says the seeds, the same for every point; allowed: no seed here: tune.seeds and "
            "tune.confirm_seeds"},
        SettingCase{
            "seeds_of_a_point", kWithoutSeeds + "tune: {confirm_seeds: [7]}\nexclude: [{stack: muon, seed: 0}]\n",
            "f:12:25: exclude.seed: tune says the seeds, the same for every point; allowed: no seed here: tune.seeds "
            "and tune.confirm_seeds"},
        SettingCase{"select", kWithoutSeeds + "tune: {select: lowest, confirm_seeds: [7]}\n",
                    "f:11:16: tune.select: 'lowest' is unknown; allowed: one of: lowest_mean"},
        SettingCase{"extend", kWithoutSeeds + "tune: {extend: 100, confirm_seeds: [7]}\n",
                    "f:11:16: tune.extend: 100 is out of range; allowed: an integer >= 0 and <= 16"},
        SettingCase{"seed_twice", kWithoutSeeds + "tune: {confirm_seeds: [7, 7]}\n",
                    "f:11:27: tune.confirm_seeds: 7 stands in the list twice; allowed: each value once"},
        SettingCase{"no_confirm_seeds", kWithoutSeeds + "tune: {confirm_seeds: []}\n",
                    "f:11:23: tune.confirm_seeds: an empty list; allowed: one value or more"},
        SettingCase{"retry_a_result", kSmallSweep + "retry: {on: [diverged]}\n",
                    "f:11:14: retry.on: 'diverged' is unknown; allowed: one of: failed, oom, timeout, preempted, lost"},
        SettingCase{"retry_often", kSmallSweep + "retry: {max: 1000}\n",
                    "f:11:14: retry.max: 1000 is out of range; allowed: an integer >= 0 and <= 100"},
        SettingCase{"checkpoint_of_nothing", kSmallSweep + "checkpoint: {keep: 0}\n",
                    "f:11:20: checkpoint.keep: 0 is out of range; allowed: an integer >= 1 and <= 1000"},
        SettingCase{"checkpoint_misspelt", kSmallSweep + "checkpoint: {evry: 5}\n",
                    "f:11:14: checkpoint: unknown key 'evry'; allowed: every, minutes, keep; did you mean 'every'?"},
        SettingCase{"many_gpus", kSmallSweep + "resources: {gpus: 2}\n",
                    "f:11:19: resources.gpus: 2 is out of range; allowed: an integer >= 0 and <= 1"},
        SettingCase{
            "ranks", kSmallSweep + "resources: {ranks: 2}\n",
            "f:11:13: resources: 'ranks' is not supported by this version; allowed: one process a job: leave it out"},
        SettingCase{"tag_of_escapes", kSmallSweep + "tags: [\"a\\e[31m\"]\n",
                    "f:11:7: tags: 'a\\x1b[31m' is no tag; allowed: 1 to 60 printable characters"},
        SettingCase{"tag_as_number", kSmallSweep + "tags: [2026]\n",
                    "f:11:8: tags: 2026 is not a string; allowed: a string; in quotes, '2026' is one"},
        SettingCase{"title", kSmallSweep + "report: {title: ''}\n",
                    "f:11:17: report.title: an empty or endless title; allowed: 1 to 200 characters"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace test_settings
}  // namespace equisweep
