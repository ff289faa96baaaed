#pragma once
// Runs a program and waits for it, without a shell.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace equisweep::testing {

struct ProcessResult {
  int exit_code = -1;  ///< 128 + signal if it was killed
  std::string out, err;
};

/// Runs argv[0] with `argv` in folder `cwd`; `env` is added to this process's environment.
ProcessResult run_process(const std::vector<std::string>& argv, const std::filesystem::path& cwd,
                          const std::map<std::string, std::string>& env = {});

void write_text(const std::filesystem::path& file, const std::string& text);
std::string read_text(const std::filesystem::path& file);

}  // namespace equisweep::testing
