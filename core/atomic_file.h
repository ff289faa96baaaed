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
  /// `fault_points`: prefix of its named places of failure (core/fault_point.h), in the order open, write, sync, rename,
  /// renamed; empty: none.
  explicit AtomicFile(std::filesystem::path path, std::string fault_points = {});
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);

  /// Makes the bytes durable, renames the file, and makes the new name durable.
  void commit();

 private:
  [[noreturn]] void fail() const;
  void pass(const char* fault_point) const;

  std::filesystem::path path_, temporary_;
  std::string fault_points_;
  int descriptor_ = -1;
};

/// Makes the names in `folder` survive the loss of power; false, with errno, if that failed.
bool sync_names(const std::filesystem::path& folder);

/// Whether `file` has a name to which AtomicFile writes until the bytes are whole.
bool is_unfinished(const std::filesystem::path& file);

/// Removes what writers of AtomicFile that were killed have left in `folder`. Only for a folder of which this process is the
/// one writer.
void remove_leftovers(const std::filesystem::path& folder);

/// Gives `path` the content `bytes` as AtomicFile does.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

}  // namespace equisweep
