// Running gnuplot without a shell.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "analysis/report/escape.h"
#include "analysis/report/figure.h"
#include "core/error.h"

namespace equisweep {
namespace {

// What a spawned gnuplot sees of the environment: where programs are, and one locale, so that numbers have points.
std::vector<std::string> environment() {
  const char* path = std::getenv("PATH");
  const char* home = std::getenv("HOME");
  return {fmt::format("PATH={}", path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin"),
          fmt::format("HOME={}", home != nullptr ? home : "/"), "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=0"};
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

std::string first_complaint(const std::filesystem::path& log) {
  std::ifstream in(log);
  std::string line, found;
  while (std::getline(in, line)) {
    if (line.find_first_not_of(" \t^") != std::string::npos) found = line;  // the last line names the error
  }
  return visible(found, 300);
}

}  // namespace

void run_gnuplot(const std::filesystem::path& script, const std::filesystem::path& folder) {
  const std::filesystem::path log = folder / (script.stem().string() + ".log");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());

  // -d: no start-up file of the user decides how a figure looks.
  std::vector<std::string> arguments = {"gnuplot", "-d", std::filesystem::absolute(script).string()},
                           variables = environment();
  pid_t child = 0;
  const int failure =
      posix_spawnp(&child, "gnuplot", &actions, nullptr, pointers(arguments).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) {
    throw Error(
        fmt::format(
            "cannot run gnuplot, which draws the figures of a report: {}; install it (Debian: apt-get install gnuplot-nox)",
            std::strerror(failure)),
        ExitCode::engine_missing);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw Error("gnuplot failed: " + first_complaint(log));
}

}  // namespace equisweep
