#include "sweeps/retention.h"

#include <fmt/format.h>

#include <map>

#include "core/atomic_file.h"
#include "core/error.h"
#include "sweeps/overview.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

/// Regular files in `folder` that are no links; nothing where the folder is one.
std::vector<fs::path> plain_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code none;
  if (fs::is_symlink(fs::symlink_status(folder, none))) return files;
  for (const auto& entry : fs::directory_iterator(folder, none))
    if (fs::is_regular_file(entry.symlink_status(none))) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<Removable> removable_files(const fs::path& sweep_folder) {
  std::map<std::string, std::string> why;  // checkpoints of a job may go
  std::map<std::string, bool> needed;      // a cell of the sweep file still asks for it
  for (const RunOverview& run : read_overview(sweep_folder).runs) {
    needed[run.job] = needed[run.job] || !run.retired;
    if (is_result(run.state)) why[run.job] = "checkpoint of a finished job";
  }
  for (const auto& [job, still] : needed)
    if (!still) why.emplace(job, "checkpoint of a retired job");

  std::vector<Removable> found;
  const auto add = [&](const fs::path& file, const std::string& reason) {
    std::error_code none;
    const auto bytes = fs::file_size(file, none);
    if (!none) found.push_back({file, static_cast<std::int64_t>(bytes), reason});
  };
  for (const auto& [job, still] : needed) {
    const fs::path folder = sweep_folder / "runs" / job;
    std::error_code none;
    if (fs::is_symlink(fs::symlink_status(folder, none)) || lock_holder(folder / kWorkerLock)) continue;
    const auto reason = why.find(job);
    for (const fs::path& inside : {folder, folder / "ckpt"})
      for (const fs::path& file : plain_files(inside)) {
        if (is_unfinished(file)) add(file, "left by an interrupted write");
        if (reason != why.end() && file.extension() == ".ckpt" && !is_unfinished(file)) add(file, reason->second);
      }
  }
  return found;
}

std::int64_t remove_files(const std::vector<Removable>& files) {
  std::int64_t bytes = 0;
  for (const Removable& file : files) {
    std::error_code error;
    if (fs::remove(file.file, error)) bytes += file.bytes;
    if (error) throw Error(fmt::format("{} cannot be removed: {}", file.file.string(), error.message()));
  }
  return bytes;
}

}  // namespace equisweep
