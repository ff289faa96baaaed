#pragma once
// A folder for the files of one piece of work, which is gone with all of them when the work is.

#include <filesystem>
#include <string>

namespace equisweep {

class ScratchFolder {
 public:
  /// Makes <parent>/<prefix>XXXXXX, X random, which only this user can read. Throws Error with the cause.
  ScratchFolder(const std::filesystem::path& parent, const std::string& prefix);
  /// The same in the folder for temporary files, $TMPDIR or /tmp.
  explicit ScratchFolder(const std::string& prefix);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace equisweep
