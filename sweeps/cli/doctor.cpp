#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/device.h"
#include "sweeps/launcher/local.h"
#include "sweeps/packing.h"
#include "sweeps/provenance.h"

namespace equisweep {
namespace {

struct Check {
  std::string what;
  bool good;
  std::string found;
  std::string remedy;
};

/// The program called `name` on the PATH, or "".
std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string file = folder + "/" + name;
    if (::access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

Check check_program(const std::string& name, const std::string& used_for, const std::string& package) {
  const std::string found = find_program(name);
  return {name, !found.empty(), found, "apt-get install " + package + " (" + used_for + ")"};
}

Check check_results(const std::filesystem::path& results) {
  std::error_code error;
  std::filesystem::create_directories(results, error);
  struct statvfs disk = {};
  if (error || ::access(results.c_str(), W_OK) != 0 || ::statvfs(results.c_str(), &disk) != 0)
    return {"results folder", false, results.string() + " cannot be written", "choose another with --results DIR"};
  const double free_gb = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize) / 1e9;
  return {"results folder", free_gb > 1, fmt::format("{} ({:.1f} GB free)", results.string(), free_gb),
          "make room: a sweep needs a few MB a run"};
}

ExitCode examine(const std::filesystem::path& results, bool json) {
  const nlohmann::json facts = provenance();
  const std::vector<Check> checks = {check_results(results), check_program("gnuplot", "figures of reports", "gnuplot-nox"),
                                     check_program("bible", "the corpus kjv", "bible-kjv bible-kjv-text")};
  bool all_good = true;
  nlohmann::json list = nlohmann::json::array();
  for (const Check& c : checks) {
    all_good = all_good && c.good;
    list.push_back({{"check", c.what}, {"ok", c.good}, {"found", c.found}, {"remedy", c.good ? "" : c.remedy}});
  }
  if (json) {
    fmt::print("{}\n", nlohmann::json({{"facts", facts}, {"checks", list}}).dump(2));
  } else {
    for (const auto& [key, value] : facts.items())
      fmt::print("{:<14} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    fmt::print("\n");
    for (const Check& c : checks)
      fmt::print("{:<4} {:<15} {}\n", c.good ? "ok" : "FAIL", c.what, c.good ? c.found : "missing: " + c.remedy);
  }
  return all_good ? ExitCode::ok : ExitCode::some_failed;
}

constexpr int kRounds = 3, kSteps = 30;

/// Measures how many jobs at a time are fastest, shows it and keeps it.
ExitCode tune(const std::vector<std::string>& models, const std::filesystem::path& results, bool json) {
  const std::filesystem::path file = packing_file(results);
  const auto known = read_packings(file);
  MachinePackings found{.cpu = provenance().at("cpu"), .cores = machine(0).cores};
  const CaughtSignals signals;
  LocalLauncher launcher;
  for (const std::string& model : models)
    found.models.push_back(measure_packings(model, found.cores, kRounds, kSteps, launcher, signals,
                                            [](const std::string& line) { fmt::print(stderr, "{}\n", line); }));
  write_packings(file, with_packings(known, found));
  std::vector<std::vector<std::string>> rows;
  nlohmann::json list = nlohmann::json::array();
  for (const ModelPackings& model : found.models) {
    for (const Packing& p : model.packings) {
      const bool best = p == model.best();
      rows.push_back({model.model, fmt::format("{}", p.jobs), fmt::format("{}", p.threads),
                      fmt::format("{:.0f}", p.tokens_per_second), fmt::format("{:.0f} to {:.0f}", p.lowest, p.highest),
                      best ? "fastest" : ""});
      list.push_back({{"model", model.model},
                      {"jobs", p.jobs},
                      {"threads", p.threads},
                      {"tokens_per_second", p.tokens_per_second},
                      {"lowest", p.lowest},
                      {"highest", p.highest},
                      {"fastest", best}});
    }
  }
  if (json) {
    fmt::print("{}\n", nlohmann::json({{"file", file.string()}, {"packings", list}}).dump(2));
    return ExitCode::ok;
  }
  fmt::print("{}", text_table({"model", "jobs at a time", "threads each", "tokens/s together", "rounds", ""}, rows));
  fmt::print("kept in {}: what `run` takes on the CPU where neither --jobs nor resources.threads says otherwise\n",
             file.string());
  return ExitCode::ok;
}

}  // namespace

void add_doctor(CLI::App& program, Action& action) {
  struct Options {
    std::filesystem::path results;
    bool json = false, tune = false;
    std::vector<std::string> models = {"qwen3-nano", "qwen3-tiny"};
  };
  CLI::App* command = program.add_subcommand(
      "doctor",
      "What this machine offers and what is missing. Exit code 1 if a check fails.\n"
      "With --tune: how many jobs at a time train the most tokens on its cores, measured with nothing else running.\n\n"
      "  equisweep doctor\n"
      "  equisweep doctor --json\n"
      "  equisweep doctor --tune\n"
      "  equisweep doctor --tune --models qwen3-small,olmoe-small\n");
  auto options = std::make_shared<Options>();
  add_results_option(*command, options->results);
  command->add_flag("--json", options->json, "machine-readable");
  CLI::Option* tune_flag = command->add_flag("--tune", options->tune, "measure, and keep the result for `run`");
  command->add_option("--models", options->models, "what to measure with --tune; `run` goes by the nearest in size")
      ->delimiter(',')
      ->capture_default_str()
      ->needs(tune_flag);
  command->callback([&action, options] {
    action = [options] {
      return options->tune ? tune(options->models, options->results, options->json)
                           : examine(options->results, options->json);
    };
  });
}

}  // namespace equisweep
