#pragma once
// A disk under SQLite that fails at a chosen write: each write, sync, truncation and deletion of a file counts as one.

#include <cstdint>

namespace equisweep {

enum class DiskFault {
  none,  ///< count only
  kill,  ///< SIGKILL instead of the write
  torn,  ///< half of the write, then SIGKILL
  full,  ///< this write and all after it find the disk full
  io,    ///< this write alone fails
};

/// Puts itself between SQLite and the system at the first call (databases opened before are not concerned) and counts from
/// zero. `at` is the operation that fails, from 1.
void set_disk_fault(DiskFault fault, std::int64_t at = 0);

/// Operations since then.
std::int64_t disk_operations();

}  // namespace equisweep
