#pragma once
// Folders that appear with everything in them, or not at all.

#include <filesystem>

namespace equisweep {

/// A folder that takes its name when commit() returns; until then its files are made in path(), a hidden folder beside it,
/// which the destructor removes.
class AtomicFolder {
 public:
  /// Throws UsageError where `out` is a link, no folder, or one that holds something; Error where path() cannot be made.
  explicit AtomicFolder(const std::filesystem::path& out);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Renames it, and makes the names durable; the files in it are made durable by who writes them. Throws Error, also where
  /// `out` has been filled meanwhile.
  void commit();

 private:
  std::filesystem::path out_, path_;
};

}  // namespace equisweep
