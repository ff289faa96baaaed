#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "sweeps/cli/command.h"
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

}  // namespace

void add_doctor(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("doctor",
                             "What this machine offers and what is missing. Exit code 1 if a check fails.\n\n"
                             "  equisweep doctor\n"
                             "  equisweep doctor --json\n");
  auto results = std::make_shared<std::filesystem::path>();
  auto json = std::make_shared<bool>(false);
  add_results_option(*command, *results);
  command->add_flag("--json", *json, "machine-readable");
  command->callback([&action, results, json] { action = [results, json] { return examine(*results, *json); }; });
}

}  // namespace equisweep
