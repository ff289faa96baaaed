#include "sweeps/sweep_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace equisweep {
namespace {

std::string pid_in(int fd) {
  std::array<char, 32> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  std::string pid = printable({text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))});
  while (!pid.empty() && pid.back() == ' ') pid.pop_back();
  const bool number = !pid.empty() && std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; });
  return number ? pid : "unknown";
}

}  // namespace

SweepLock::SweepLock(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kSupervisorLock;
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
  if (fd_ < 0)
    throw DatabaseError(file.string(), fmt::format("cannot be opened ({}); check the permissions", std::strerror(errno)));
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    const int cause = errno;
    const std::string pid = pid_in(fd_);
    ::close(fd_);
    if (cause != EWOULDBLOCK) {
      throw DatabaseError(file.string(),
                          fmt::format("cannot be locked ({}); put the results on a local disk", std::strerror(cause)));
    }
    throw SweepBusy(file.string(),
                    fmt::format("process {} is running this sweep; wait for it, or end it with `kill {}`", pid, pid));
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) < 0) {
    const int cause = errno;
    ::close(fd_);
    throw DatabaseError(file.string(), fmt::format("cannot be written ({})", std::strerror(cause)));
  }
}

SweepLock::~SweepLock() { ::close(fd_); }

std::optional<std::string> lock_holder(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::optional<std::string> pid;
  if (::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) pid = pid_in(fd);
  ::close(fd);
  return pid;
}

}  // namespace equisweep
