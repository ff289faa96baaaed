#include "core/process_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

namespace equisweep {
namespace {

std::string process_in(int descriptor) {
  std::array<char, 32> text{};
  const auto count = ::pread(descriptor, text.data(), text.size(), 0);
  std::string pid(text.data(), static_cast<std::size_t>(std::max<decltype(count)>(count, 0)));
  while (!pid.empty() && pid.back() == ' ') pid.pop_back();
  const bool number = !pid.empty() && std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; });
  return number ? pid : "unknown";
}

/// Takes the lock, or fails with EWOULDBLOCK. lock_holder() asks by taking it for a moment, so a refusal is believed only
/// when it lasts.
bool take(int descriptor) {
  constexpr int kTries = 5;
  for (int i = 1;; ++i) {
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return true;
    if ((errno != EWOULDBLOCK && errno != EINTR) || i == kTries) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace

ProcessLock::ProcessLock(std::filesystem::path path, std::string_view holder)
    : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644)) {
  const std::string file = printable(path.string(), 4096);
  const auto refuse = [&](const std::string& what) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw DatabaseError(file, what);
  };
  const auto cause = [] { return std::generic_category().message(errno); };
  if (descriptor_ < 0)
    refuse(errno == ELOOP ? "is a link; a lock is a plain file, delete it"
                          : fmt::format("cannot be opened ({}); check the permissions", cause()));
  if (!take(descriptor_)) {
    if (errno != EWOULDBLOCK) refuse(fmt::format("cannot be locked ({}); put the results on a local disk", cause()));
    const std::string pid = process_in(descriptor_);
    ::close(descriptor_);
    throw LockHeld(file, fmt::format("process {} {}; wait for it, or end it with `kill {}`", pid, holder, pid));
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, pid.data(), pid.size(), 0) < 0)
    refuse(fmt::format("cannot be written ({})", cause()));
}

ProcessLock::~ProcessLock() { ::close(descriptor_); }

std::optional<std::string> lock_holder(const std::filesystem::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  std::optional<std::string> pid;
  if (::flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) pid = process_in(descriptor);
  ::close(descriptor);
  return pid;
}

}  // namespace equisweep
