#pragma once
// Test only: sweep databases with made-up runs, so that report numbers can be checked by hand and pages looked at.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace equisweep::testing {

struct FixtureRun {
  std::string model = "m", stack = "s";
  bool baseline = false;
  double lr_scale = 1;
  std::int64_t seed = 0;
  std::string axes = "{}";
  std::string state = "done";
  std::vector<std::pair<std::int64_t, double>> evals = {};  ///< (step, loss); 100 tokens and `step_seconds` seconds a step
  double step_seconds = 0.01;
  std::string message = {};
  bool spectra = false;    ///< block_stats of a two-layer model
  std::string phase = {};  ///< "tune", "confirm"
};

struct FixtureSweep {
  std::map<std::string, std::string> meta = {{"name", "fixture"}};
  std::string corpus = R"({"name":"kjv","vocabulary":512,"train_tokens":1500000,"val_tokens":50000,"unigram_entropy":5.0})";
  std::vector<FixtureRun> runs = {};
};

/// Writes `sweep` as a new sweep.db.
void write_sweep(const std::filesystem::path& path, const FixtureSweep& sweep);

/// A later attempt of run `run` that resumed after `resume_step`, with its own evaluations.
void add_attempt(const std::filesystem::path& path, std::int64_t run, std::int64_t attempt, std::int64_t resume_step,
                 const std::vector<std::pair<std::int64_t, double>>& evals);

/// Runs statements of SQL on a sweep.db: for what a fixture has no field.
void change_sweep(const std::filesystem::path& path, const std::string& sql);

/// Three stacks, four learning-rate scales, `seeds` seeds on one model: a baseline, one clear improvement, one small one;
/// where there are two seeds, one run diverges. With evaluations every 25 of 300 steps and spectra.
FixtureSweep realistic_sweep(int seeds);

}  // namespace equisweep::testing
