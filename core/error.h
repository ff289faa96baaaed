#pragma once
// Errors that a user can cause. Programmer errors are assertions (TORCH_CHECK, assert).
//
// Every message names the place, what was found, what is allowed, the nearest valid name and what to do, as far as the
// place that raises it knows them. Each kind owns its exit code (docs/cli.md), so that main() is one catch clause.

#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace equisweep {

/// Exit codes of the program.
enum class ExitCode : int {
  ok = 0,
  some_failed = 1,
  usage = 2,
  nothing_matches = 3,
  report_refused = 4,
  database = 5,
  engine_missing = 6,
  preempted = 75,
};

/// A place in a text file; line and column count from 1, 0 means unknown.
struct SourcePosition {
  std::string file;
  int line = 0;
  int column = 0;
};

/// "file:3:7" with the parts that are known; empty if none is.
std::string to_string(const SourcePosition& position);

/// One complaint about an input: what was found, what would have been right, and where.
struct Problem {
  SourcePosition where;
  std::string what;     ///< what was found and why it is wrong
  std::string allowed;  ///< what is allowed, e.g. "one of: adamw, sgd" or "a number > 0"; may be empty
  std::string nearest;  ///< the nearest valid name; may be empty

  Problem() = default;
  Problem(SourcePosition place, std::string what_found, std::string what_is_allowed = "", std::string nearest_valid = "")
      : where(std::move(place)),
        what(std::move(what_found)),
        allowed(std::move(what_is_allowed)),
        nearest(std::move(nearest_valid)) {}
};

/// "file:3:7: unknown key 'sede'; allowed: seed, steps; did you mean 'seed'?"
std::string to_string(const Problem& problem);

/// Base of all errors that a user can cause.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::some_failed)
      : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// Wrong options, or a sweep file with at least one problem: exit 2. what() lists all problems, one a line.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(message, ExitCode::usage) {}
  explicit UsageError(std::vector<Problem> problems);
  const std::vector<Problem>& problems() const { return problems_; }

 private:
  std::vector<Problem> problems_;
};

/// A file that is not what it claims to be (shard, tokenizer, weights): names the file and, where known, the byte offset.
class DataError : public Error {
 public:
  DataError(const std::string& file, const std::string& message) : Error(file + ": " + message) {}
};

/// A database that cannot be opened, is newer than this program, or is damaged: exit 5.
class DatabaseError : public Error {
 public:
  DatabaseError(const std::string& file, const std::string& message)
      : Error(file + ": " + message, ExitCode::database) {}
};

/// The candidate nearest to `found` by edit distance, if it is near enough to be a slip of the pen; else "".
/// Distance at most max(1, min(|found|, |candidate|) / 3); ties go to the earlier candidate.
std::string nearest_name(std::string_view found, std::span<const std::string> candidates);

/// "a, b, c"
std::string join(std::span<const std::string> parts, std::string_view separator = ", ");

/// `text` with control characters (also ANSI escapes) replaced by \xNN, cut to `limit` bytes: safe to print on a terminal.
std::string printable(std::string_view text, std::size_t limit = 200);

}  // namespace equisweep
