#pragma once
// Brings the database of a sweep up to what its workers have written, where no supervisor does.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace equisweep {

struct TakenIn {
  std::int64_t rows = 0;             ///< that are new
  std::size_t runs = 0;              ///< that were looked at and could be read
  std::vector<std::string> refused;  ///< what is wrong with each of the others
};

/// Takes in the run.db of every run of the sweep in `folder`, holding the supervisor's lock. One that cannot be read costs
/// the others nothing. Throws LockHeld where a supervisor runs, DatabaseError if sweep.db cannot be written.
TakenIn take_in_runs(const std::filesystem::path& folder);

/// Whether a run that sweep.db knows no result of has a run.db, which may have one. Only reads. Throws DatabaseError.
bool may_be_behind(const std::filesystem::path& folder);

}  // namespace equisweep
