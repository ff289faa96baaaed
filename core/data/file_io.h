#pragma once
// Reading and writing files by descriptor, with errors that name the file. Used where std::fstream cannot say what failed,
// cannot fsync, or would mix up threads that read one file.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace equisweep {

/// What a file looked like when it was opened. Equal before and after: nobody wrote to it, as far as the system can tell.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  std::int64_t size = 0;
  std::int64_t mtime_ns = 0;
  std::int64_t ctime_ns = 0;  ///< unlike mtime, no program can set it back
  bool operator==(const FileIdentity&) const = default;
};

/// A regular file opened for reading. read_at is thread-safe.
class InputFile {
 public:
  /// Throws DataError if it cannot be opened or is no regular file.
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Fills `out` from byte `offset`; throws DataError if the file ends before.
  void read_at(std::int64_t offset, std::span<std::byte> out) const;
  FileIdentity identity() const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_;
};

/// A new file opened for writing (an existing one is emptied). Without close() the content may be incomplete.
class OutputFile {
 public:
  /// Throws Error if it cannot be created.
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);  ///< appends
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void write_at(std::int64_t offset, std::span<const std::byte> bytes);  ///< overwrites
  void close();                                                          ///< fsync and close
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_;
};

/// An exclusive lock by a file of its own, which is created and, at the end, removed. The end of the process, however it
/// comes, releases it.
class FileLock {
 public:
  explicit FileLock(const std::filesystem::path& path);  ///< waits; throws Error if the file cannot be created
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::string path_;
  int fd_;
};

/// The whole file; throws DataError if it cannot be read or has more than `limit` bytes.
std::string read_text_file(const std::filesystem::path& path, std::int64_t limit = std::int64_t{1} << 30);

/// fsync of a folder, so that names in it survive a power cut.
void sync_folder(const std::filesystem::path& folder);

}  // namespace equisweep
