#pragma once
// Who may write what: flock on a file that holds the process number of its holder. The kernel lets go when the holder dies,
// however it dies, so nothing has to be cleaned up.
//
//   results/<sweep>/supervisor.lock        the one process that writes sweep.db
//   results/<sweep>/runs/<id>/worker.lock  the one worker of a job

#include <filesystem>
#include <optional>
#include <string>

#include "core/error.h"

namespace equisweep {

inline constexpr const char* kSupervisorLock = "supervisor.lock";
inline constexpr const char* kWorkerLock = "worker.lock";

/// Another process writes the database of this sweep: exit 5.
class SweepBusy : public DatabaseError {
 public:
  using DatabaseError::DatabaseError;
};

/// The right to write the database of the sweep in `folder`, while this lives. Throws SweepBusy with the number of the
/// process that has it, DatabaseError if the file cannot be made, is a link, or cannot be locked.
class SweepLock {
 public:
  explicit SweepLock(const std::filesystem::path& folder);
  ~SweepLock();
  SweepLock(const SweepLock&) = delete;
  SweepLock& operator=(const SweepLock&) = delete;

 private:
  int fd_;
};

/// The number of the process that holds the lock `file`, as written in it ("unknown" if nothing readable is); nothing if
/// the file is missing or nobody holds it.
std::optional<std::string> lock_holder(const std::filesystem::path& file);

}  // namespace equisweep
