#pragma once
// A file that one process holds while it lives.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"

namespace equisweep {

/// Another process holds the lock: exit 5.
class LockHeld : public DatabaseError {
 public:
  using DatabaseError::DatabaseError;
};

/// A lock on `path`, which is made where it is missing and holds the process number of its owner. The kernel lets go of it
/// when the process dies, however it dies; the file stays. Not inherited by programs that this one starts.
class ProcessLock {
 public:
  /// `holder` completes the message "process 4711 ...", e.g. "is running this sweep". Throws LockHeld if another process
  /// holds the lock, DatabaseError if the file is a link or cannot be opened, locked or written.
  ProcessLock(std::filesystem::path path, std::string_view holder);
  ~ProcessLock();
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;

 private:
  int descriptor_;
};

/// The number of the process that holds the lock `file`, as written in it ("unknown" if nothing readable is); nothing if
/// the file is missing or nobody holds it.
std::optional<std::string> lock_holder(const std::filesystem::path& file);

}  // namespace equisweep
