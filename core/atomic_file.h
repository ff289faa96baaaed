#pragma once
// Files that appear complete or not at all, also when the process or the machine dies in between.

#include <filesystem>
#include <string>
#include <string_view>

namespace equisweep {

/// A file that takes its name when commit() returns; until then the name keeps what it had. Bytes go to a temporary file in
/// the same folder, which the destructor removes if commit() was not reached. Throws Error, naming the file and the cause.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);

  /// Makes the bytes durable, renames the file, and makes the new name durable.
  void commit();

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

/// Gives `path` the content `bytes` as AtomicFile does.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

}  // namespace equisweep
