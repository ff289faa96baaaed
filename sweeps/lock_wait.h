#pragma once
// Waiting for a database that another process holds.

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "core/error.h"

namespace equisweep {

/// What there is to say while sweep.db is looked at again and again. A lock that goes within a few seconds is not worth a
/// line.
class LockWait {
 public:
  static constexpr double kSilence = 10;  ///< seconds

  /// The line to show now that `file` has been found locked or free, `now` in seconds of a clock that only goes forward;
  /// "" where there is none.
  std::string look(bool locked, const std::filesystem::path& file, double now) {
    if (!locked) {
      since_.reset();
      return std::exchange(said_, false) ? fmt::format("{} is free again", name_of(file)) : "";
    }
    if (!since_) since_ = now;
    if (said_ || now - *since_ < kSilence) return "";
    said_ = true;
    return fmt::format(
        "{0} is locked by another process, which `fuser {0}` finds: jobs that run go on, and once it lets go those that "
        "have ended are recorded and others start",
        name_of(file));
  }

 private:
  static std::string name_of(const std::filesystem::path& file) { return printable(file.string(), 4096); }

  std::optional<double> since_;
  bool said_ = false;
};

}  // namespace equisweep
