#pragma once
// What of a sweep's files is no longer needed. Databases, configs and logs are: they are the evidence.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace equisweep {

/// A file that can go, and why.
struct Removable {
  std::filesystem::path file;
  std::int64_t bytes = 0;
  std::string why;  ///< "checkpoint of a finished job", "checkpoint of a retired job", "left by an interrupted write"
};

/// The checkpoints of jobs that are results, or that the sweep file does not ask for any more, and what interrupted writes
/// left in the folders of runs that no worker holds. Links are neither followed nor listed. Throws DatabaseError.
std::vector<Removable> removable_files(const std::filesystem::path& sweep_folder);

/// Removes them; returns the bytes that are free now. A file that is gone already is no error; throws Error on any other.
std::int64_t remove_files(const std::vector<Removable>& files);

}  // namespace equisweep
