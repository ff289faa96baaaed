// Sweep files from nowhere: cut, mutated, blown up. Each ends in a list of problems or in the jobs that it says, soon.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sweeps/file/reader.h"
#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_hostile_sweep_files {

/// The ids of the jobs of `text`, or nothing where it is refused. Anything else that is thrown fails the test.
std::vector<std::string> ids_or_refusal(const std::string& text) {
  std::vector<std::string> ids;
  try {
    const SweepSpec spec = read_sweep(text, "f");
    if (count_jobs(spec) > 200) return {"many"};
    for (const Job& job : expand(spec)) ids.push_back(job.id);
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()), "");
    return {};
  }
  EXPECT_FALSE(ids.empty());
  return ids;
}

/// Everything that a sweep file may hold, the required key `stacks` last.
const std::string kFullSweep =
    "version: 1\nname: full\nnotes: \"a \\u00e9\"\ntags: [a, 'b c']\n"
    "data: {corpus: synthetic, seq_len: 16, batch_tokens: 64}\ntrain: {steps: 10, eval: {every: 5, tokens: 64}}\n"
    "schedule: {type: wsd, warmup: 2, decay: 0.4}\nlog: {spectral: {every: 2}}\nstop: {loss_above: {value: 12, after: 5}}\n"
    "tune: {seeds: [0], confirm_seeds: {range: [10, 12]}, extend: 2}\nretry: {max: 1, on: [oom]}\n"
    "checkpoint: {every: 5}\nresources: {threads: 1}\nreport: {title: T}\nmodel: {layers: 1}\n"
    "exclude: [{stack: ours, lr_scale: 4}]\ngrid:\n  model: qwen3-nano\n  lr_scale: {log2: [1, 4]}\n"
    "stacks:\n  base: {baseline: true, default: {rule: adamw, lr: 3e-3, betas: [[0.9, 0.95], [0.8, 0.9]]}}\n"
    "  ours:\n    extends: base\n    matrix: {rule: muon, lr: {by_architecture: {qwen3: 0.02}}, polar: {steps: 3}}\n";

TEST(HostileSweepFile, TheFileItselfIsOne) { EXPECT_EQ(ids_or_refusal(kFullSweep).size(), 3U * 2 + 2 * 2); }

// Cut at every byte: refused, or a sweep of its own. What ends within a stack's last entry may still be whole: the cut lost
// options, which the plan shows.
TEST(HostileSweepFile, CutAtEveryByteItIsRefusedOrReadable) {
  const std::size_t stacks = kFullSweep.find("stacks:");
  for (std::size_t n = 0; n < kFullSweep.size(); ++n) {
    const bool read = !ids_or_refusal(kFullSweep.substr(0, n)).empty();
    if (n < stacks) {
      EXPECT_FALSE(read) << kFullSweep.substr(0, n);
    }
  }
}

// Seeded: the same mutations each time.
TEST(HostileSweepFile, MutationsAreRefusedOrRead) {
  std::mt19937 random(20261122);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const std::vector<std::string> pieces = {"[",
                                           "]",
                                           "{",
                                           "}",
                                           ": ",
                                           "- ",
                                           ",",
                                           "\n",
                                           "\n  ",
                                           "#",
                                           "&a ",
                                           "*a",
                                           "!!str ",
                                           "<<: ",
                                           "---\n",
                                           "...\n",
                                           "|\n",
                                           ">",
                                           "'",
                                           "\"",
                                           "\\",
                                           "%YAML\n",
                                           "null",
                                           "~",
                                           "no",
                                           ".nan",
                                           "1e999",
                                           "-1",
                                           "0",
                                           "007",
                                           "9223372036854775808",
                                           "1e-320",
                                           "builtin/",
                                           "extends: ours",
                                           "{range: [0, 100000]}",
                                           "\t",
                                           "\r",
                                           std::string(1, '\0'),
                                           "\xEF\xBB\xBF",
                                           "\xC3",
                                           "\x1B[31m",
                                           "\xE2\x80\xA8",
                                           "../x",
                                           "by_architecture: "};
  int read = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = kFullSweep;
    for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
      const std::size_t at = below(text.size()), length = std::min(text.size() - at, below(12));
      switch (below(4)) {
        case 0:
          text.erase(at, length);
          break;
        case 1:
          text.insert(at, pieces[below(pieces.size())]);
          break;
        case 2:
          text.replace(at, length, pieces[below(pieces.size())]);
          break;
        default:
          text.insert(below(text.size()), text.substr(at, length));  // a piece of itself, elsewhere
      }
      if (text.empty()) text = "a";
    }
    read += ids_or_refusal(text).empty() ? 0 : 1;
  }
  EXPECT_GT(read, 20);  // some mutations leave a sweep, so that the loop sees both ends
}

TEST(HostileSweepFile, AByteOrderMarkAndWindowsLineEndsAreTheSameSweep) {
  std::string dos = "\xEF\xBB\xBF";
  for (const char c : kFullSweep) dos += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(ids_or_refusal(dos), ids_or_refusal(kFullSweep));
}

TEST(HostileSweepFile, ExtendsInACircleEndsHoweverLong) {
  const auto circle = [](int n) {
    std::string text = kSmallSweep.substr(0, kSmallSweep.find("stacks:")) + "stacks:\n";
    for (int i = 0; i < n; ++i) text += fmt::format("  s{}: {{extends: s{}}}\n", i, (i + 1) % n);
    return errors_of(text);
  };
  EXPECT_NE(circle(1000).find("extends goes round in a circle: s0 -> s1 -> "), std::string::npos);
  EXPECT_EQ(circle(35'000), "f:6:1: stacks: 35000 of them; allowed: at most 1000");
}

TEST(HostileSweepFile, ListsOfSelectionsAreBounded) {
  std::string text = "exclude:\n";
  for (int i = 0; i < 40'000; ++i) text += "  - {seed: 1}\n";
  EXPECT_NE(errors_of(text + kSmallSweep).find("f:2:3: exclude: 40000 maps; allowed: at most 1000"), std::string::npos);
}

TEST(HostileSweepFile, MillionsOfJobsInOneEntryAreRefusedBeforeTheyExist) {
  std::string options;
  for (const char* option : {"lr", "beta", "weight_decay"})
    options += fmt::format("{}{}: {{log: [0.01, 0.5, 99999]}}", options.empty() ? "" : ", ", option);
  EXPECT_EQ(errors_of(changed("lr: 0.02", options)),
            "f:5:1: 3999880001200000 jobs: model 1 x stack 2 x lr_scale 2 x seed 2, with the axes muon.matrix.lr 99999 x "
            "muon.matrix.beta 99999 x muon.matrix.weight_decay 99999; allowed: at most 100000");
}

}  // namespace test_hostile_sweep_files
}  // namespace equisweep
