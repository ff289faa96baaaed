#include "core/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/fault_point.h"

namespace equisweep {
namespace {

int retried(auto call) {
  int result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace

// Without this a crash of the machine may undo the rename.
bool sync_names(const std::filesystem::path& folder) {
  const int descriptor = retried([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (descriptor < 0) return false;
  // EINVAL: a file system that has no such thing for folders.
  const bool synced = retried([&] { return ::fsync(descriptor); }) == 0 || errno == EINVAL;
  const int cause = errno;
  ::close(descriptor);
  errno = cause;
  return synced;
}

bool is_unfinished(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  return name.starts_with('.') && name.ends_with(".tmp");
}

void remove_leftovers(const std::filesystem::path& folder) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (is_unfinished(entry.path())) ::unlink(entry.path().c_str());
}

AtomicFile::AtomicFile(std::filesystem::path path, std::string fault_points)
    : path_(std::move(path)), fault_points_(std::move(fault_points)) {
  pass("open");
  static std::atomic<unsigned> serial = 0;
  do {
    temporary_ = folder_of(path_) / fmt::format(".{}.{}-{}.tmp", path_.filename().string(), ::getpid(), ++serial);
    descriptor_ = retried([&] { return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  } while (descriptor_ < 0 && errno == EEXIST);  // left behind by a process that died
  if (descriptor_ < 0) fail();
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  pass("write");
  while (!bytes.empty()) {
    const auto written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail();
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  pass("sync");
  if (retried([&] { return ::fsync(descriptor_); }) != 0) fail();
  if (::close(std::exchange(descriptor_, -1)) != 0) fail();
  pass("rename");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail();
  temporary_.clear();
  pass("renamed");
  if (!sync_names(folder_of(path_))) fail();
}

void AtomicFile::pass(const char* fault_point) const {
  if (!detail::faults_armed || fault_points_.empty()) return;
  errno = fault_errno(fault_points_ + "." + fault_point);
  if (errno != 0) fail();
}

void AtomicFile::fail() const {
  throw Error(fmt::format("{}: cannot be written: {}", printable(path_.string()), std::generic_category().message(errno)));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace equisweep
