#include "core/data/kjv.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <system_error>

#include "core/data/sha256.h"
#include "core/error.h"

extern char** environ;

namespace equisweep {
namespace {

constexpr std::int64_t kVerses = 31102;
constexpr std::size_t kHoldOut = 20;
constexpr std::size_t kLongestOutput = 64 << 20;
constexpr const char* kAdvice =
    "Install it with 'apt-get install bible-kjv', or set data.corpus to 'synthetic' or to a folder that 'equisweep data "
    "prepare' made";

struct Output {
  std::string text;
  int status = 0;  // as waitpid gives it
};

Output run(const std::string& program, std::vector<std::string> arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(fmt::format("no pipe: {}", std::generic_category().message(errno)));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failure = ::posix_spawnp(&child, program.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failure != 0) {
    ::close(ends[0]);
    throw Error(fmt::format("the corpus 'kjv' needs the program '{}', which cannot be started: {}. {}", program,
                            std::generic_category().message(failure), kAdvice));
  }
  Output output;
  std::array<char, 1 << 16> buffer;
  for (ssize_t n; (n = ::read(ends[0], buffer.data(), buffer.size())) != 0 && output.text.size() <= kLongestOutput;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    output.text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  while (::waitpid(child, &output.status, 0) < 0 && errno == EINTR) {
  }
  return output;
}

}  // namespace

std::string print_kjv(const std::string& program) {
  Output output = run(program, {"-f", "gen1:1-rev22:21"});
  const std::int64_t lines = std::ranges::count(output.text, '\n');
  if (output.status != 0 || lines != kVerses) {
    throw Error(fmt::format("'{} -f gen1:1-rev22:21' ended with status {} and printed {} lines; {} verses are expected. {}",
                            program, WIFEXITED(output.status) ? WEXITSTATUS(output.status) : -1, lines, kVerses, kAdvice));
  }
  return std::move(output.text);
}

std::vector<std::string> kjv_chapters(std::string_view printed) {
  std::vector<std::string> chapters;
  std::string_view current;  // "1Sm1"
  for (std::int64_t number = 1; !printed.empty(); ++number) {
    std::string_view line = printed.substr(0, printed.find('\n'));
    printed.remove_prefix(std::min(line.size() + 1, printed.size()));
    const std::size_t colon = line.find(':'), space = line.find(' ');
    const auto digits = [](std::string_view text) {
      return !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
    };
    // A book may begin with a digit, and its name holds no space: "1Sm1:1 Now there was ...".
    if (space == std::string_view::npos || colon >= space || colon == 0 ||
        !std::isdigit(static_cast<unsigned char>(line[colon - 1])) || !digits(line.substr(colon + 1, space - colon - 1))) {
      throw DataError(
          "kjv", fmt::format("line {} does not begin with a reference such as 'Ge1:1 ': '{}'", number, printable(line, 40)));
    }
    const std::string_view chapter = line.substr(0, colon);
    if (chapter != current) chapters.emplace_back();
    current = chapter;
    chapters.back().append(line.substr(space + 1)).push_back('\n');
  }
  return chapters;
}

void prepare_kjv(const std::filesystem::path& out, std::int64_t vocabulary, const PrepareProgress& progress) {
  if (std::filesystem::exists(out)) return;
  const auto lock = corpus_lock(out);
  if (std::filesystem::exists(out)) return;  // somebody else did it while we waited
  const std::string printed = print_kjv();
  const std::vector<std::string> chapters = kjv_chapters(printed);
  CorpusWriter writer(out, vocabulary, progress);
  for (std::size_t i = 0; i < chapters.size(); ++i)
    writer.add(chapters[i], true, i % kHoldOut == kHoldOut - 1 ? Part::val : Part::train);
  writer.add_source({"bible -f gen1:1-rev22:21", std::ssize(printed), sha256(printed)});
  writer.finish();
}

}  // namespace equisweep
