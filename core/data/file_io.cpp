#include "core/data/file_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/atomic_file.h"
#include "core/error.h"

namespace equisweep {
namespace {

std::string reason(int code) { return std::generic_category().message(code); }

int open_file(const std::string& path, int flags) {
  int fd;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  while (fd < 0 && errno == EINTR);
  return fd;
}

std::int64_t nanoseconds(const timespec& t) { return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

}  // namespace

InputFile::InputFile(const std::filesystem::path& path)
    : path_(path.string()), fd_(open_file(path_, O_RDONLY | O_NONBLOCK)) {
  if (fd_ < 0) throw DataError(path_, fmt::format("cannot be opened: {}", reason(errno)));
  struct stat s {};
  if (::fstat(fd_, &s) != 0 || !S_ISREG(s.st_mode)) {  // O_NONBLOCK: opening a FIFO would wait forever
    ::close(fd_);
    throw DataError(path_, "is not a regular file");
  }
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read_at(std::int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw DataError(path_, fmt::format("cannot be read at byte {}: {}", offset, reason(errno)));
    if (n == 0)
      throw DataError(path_,
                      fmt::format("ends at byte {}, {} more expected; it was cut after it was opened", offset, out.size()));
    out = out.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

FileIdentity InputFile::identity() const {
  struct stat s {};
  if (::fstat(fd_, &s) != 0) throw DataError(path_, fmt::format("cannot be examined: {}", reason(errno)));
  return {s.st_dev, s.st_ino, s.st_size, nanoseconds(s.st_mtim), nanoseconds(s.st_ctim)};
}

OutputFile::OutputFile(const std::filesystem::path& path)
    : path_(path.string()), fd_(open_file(path_, O_WRONLY | O_CREAT | O_TRUNC)) {
  if (fd_ < 0) throw Error(fmt::format("{}: cannot be created: {}", path_, reason(errno)));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(fmt::format("{}: cannot be written: {}", path_, reason(errno)));
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void OutputFile::write_at(std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(fmt::format("{}: cannot be written: {}", path_, reason(errno)));
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

void OutputFile::close() {
  const bool synced = ::fsync(fd_) == 0;
  const int code = errno;
  const bool closed = ::close(fd_) == 0;
  fd_ = -1;
  if (!synced || !closed) throw Error(fmt::format("{}: cannot be written: {}", path_, reason(synced ? errno : code)));
}

// The holder removes the file, so whoever gets the lock must look whether it is still the file of that name.
FileLock::FileLock(const std::filesystem::path& path) : path_(path.string()), fd_(-1) {
  for (;;) {
    fd_ = open_file(path_, O_RDWR | O_CREAT);
    if (fd_ < 0) throw Error(fmt::format("{}: cannot be created: {}", path_, reason(errno)));
    while (::flock(fd_, LOCK_EX) != 0) {
      if (errno == EINTR) continue;
      const int code = errno;
      ::close(fd_);
      throw Error(fmt::format("{}: cannot be locked: {}", path_, reason(code)));
    }
    struct stat mine {
    }, named{};
    if (::fstat(fd_, &mine) == 0 && ::stat(path_.c_str(), &named) == 0 && mine.st_ino == named.st_ino &&
        mine.st_dev == named.st_dev)
      return;
    ::close(fd_);
  }
}

FileLock::~FileLock() {
  ::unlink(path_.c_str());
  ::close(fd_);
}

std::string read_text_file(const std::filesystem::path& path, std::int64_t limit) {
  const InputFile file(path);
  const std::int64_t size = file.identity().size;
  if (size > limit) throw DataError(file.path(), fmt::format("has {} bytes; at most {} are read", size, limit));
  std::string text(static_cast<std::size_t>(size), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void sync_folder(const std::filesystem::path& folder) {
  if (!sync_names(folder)) throw Error(fmt::format("{}: cannot be written: {}", folder.string(), reason(errno)));
}

}  // namespace equisweep
