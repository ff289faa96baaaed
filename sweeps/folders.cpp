#include <fmt/format.h>

#include "core/error.h"
#include "sweeps/supervisor.h"

namespace equisweep {
namespace fs = std::filesystem;

fs::path sweep_folder(const fs::path& results, const std::string& name) {
  if (name.empty() || name[0] == '.' || name[0] == '-' || name.size() > 200 || name.find('/') != std::string::npos ||
      name != printable(name, name.size())) {
    throw UsageError(
        fmt::format("'{}' is no name for a sweep: it names a folder, so it has 1 to 200 characters without '/' and does not "
                    "begin with '.' or '-'",
                    printable(name)));
  }
  return results / name;
}

fs::path run_folder(const fs::path& results, const std::string& name, const std::string& job) {
  return sweep_folder(results, name) / "runs" / job;
}

fs::path make_sweep_folder(const fs::path& results, const std::string& name) {
  const fs::path folder = sweep_folder(results, name);
  std::error_code error;
  fs::create_directories(folder / "runs", error);
  if (error)
    throw DatabaseError(folder.string(), fmt::format("cannot be made ({}); check the permissions", error.message()));
  return folder;
}

}  // namespace equisweep
