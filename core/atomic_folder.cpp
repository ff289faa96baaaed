#include "core/atomic_folder.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>

#include "core/atomic_file.h"
#include "core/error.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

fs::path without_slash(const fs::path& folder) {
  const fs::path plain = fs::absolute(folder).lexically_normal();
  return plain.has_filename() ? plain : plain.parent_path();
}

void require_room(const fs::path& out) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(out, error);
  const std::string name = printable(out.string());
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status))
    throw UsageError(fmt::format("{} exists and is {}; name a folder that does not exist or is empty", name,
                                 fs::is_symlink(status) ? "a link" : "no folder"));
  const bool empty = fs::is_empty(out, error);
  if (error) throw Error(fmt::format("{}: cannot be read: {}", name, error.message()));
  if (!empty) throw UsageError(fmt::format("{} exists and is not empty; delete it first or choose another folder", name));
}

}  // namespace

AtomicFolder::AtomicFolder(const fs::path& out) : out_(without_slash(out)) {
  require_room(out_);
  std::error_code error;
  fs::create_directories(out_.parent_path(), error);
  static std::atomic<unsigned> serial = 0;
  int made = 0;
  do {
    path_ = out_.parent_path() / fmt::format(".{}.{}-{}.tmp", out_.filename().string().substr(0, 200), ::getpid(), ++serial);
    made = ::mkdir(path_.c_str(), 0777);
  } while (made != 0 && errno == EEXIST);  // left behind by a process that died
  if (made != 0)
    throw Error(fmt::format("{}: cannot be made: {}", printable(out_.string()), std::generic_category().message(errno)));
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void AtomicFolder::commit() {
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(path_))
    if (entry.is_directory()) sync_names(entry.path());
  sync_names(path_);
  fs::rename(path_, out_, error);  // onto an empty folder too
  if (error) throw Error(fmt::format("{}: cannot take its name: {}", printable(out_.string()), error.message()));
  path_.clear();
  sync_names(out_.parent_path());
}

}  // namespace equisweep
