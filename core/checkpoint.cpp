#include "core/checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <map>
#include <system_error>
#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/fault_point.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCheckpointFormat = "equisweep-checkpoint-1";
constexpr std::string_view kPrefix = "step-", kSuffix = ".ckpt";

/// The whole of `text` as a number, or nothing.
template <typename T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The step of a checkpoint's name, or nothing.
std::optional<std::int64_t> step_of(const fs::path& file) {
  const std::string name = file.filename().string();
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) || name.size() < kPrefix.size() + kSuffix.size())
    return std::nullopt;
  const auto step =
      parsed<std::int64_t>(std::string_view(name).substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size()));
  return step && checkpoint_file("", *step).string() == name ? step : std::nullopt;
}

/// Step and file of all checkpoints, newest first.
std::vector<std::pair<std::int64_t, fs::path>> list_checkpoints(const fs::path& folder) {
  std::vector<std::pair<std::int64_t, fs::path>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (const auto step = step_of(entry.path())) found.emplace_back(*step, entry.path());
  std::sort(found.rbegin(), found.rend());
  return found;
}

bool is_link(const fs::path& path) {
  std::error_code ignored;
  return fs::is_symlink(fs::symlink_status(path, ignored));
}

void make_checkpoint_folder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0777) == 0) {
    sync_names(folder.parent_path());
  } else if (errno != EEXIST) {
    throw Error(
        fmt::format("{}: cannot be made: {}", printable(folder.string(), 4096), std::generic_category().message(errno)));
  }
  if (is_link(folder) || !fs::is_directory(folder))
    throw Error(
        fmt::format("{}: is no folder of this run but a link or a file; delete it", printable(folder.string(), 4096)));
}

std::string shape_and_dtype(at::ScalarType dtype, const std::vector<std::int64_t>& shape) {
  return fmt::format("{} [{}]", at::toString(dtype), fmt::join(shape, ", "));
}

/// The metadata of one file: each key is fetched once, and no other may be there.
class CheckpointFacts {
 public:
  CheckpointFacts(const fs::path& file, std::map<std::string, std::string> facts) : file_(file), facts_(std::move(facts)) {}

  std::string text(const std::string& key) {
    const auto found = facts_.find(key);
    if (found == facts_.end()) refuse(fmt::format("its metadata lack '{}'", key));
    std::string value = std::move(found->second);
    facts_.erase(found);
    return value;
  }
  template <typename T>
  T number(const std::string& key, T least) {
    const std::string value = text(key);
    const auto number = parsed<T>(value);
    // Also false for NaN.
    if (!number || !(*number >= least) || !(*number <= std::numeric_limits<T>::max()))
      refuse(fmt::format("'{}' is '{}', which is no number from {} on", key, printable(value), least));
    return *number;
  }
  void expect_no_more() const {
    if (!facts_.empty()) refuse(fmt::format("has unknown metadata '{}'", printable(facts_.begin()->first)));
  }
  [[noreturn]] void refuse(const std::string& why) const { throw DataError(printable(file_.string(), 4096), why); }

 private:
  const fs::path& file_;
  std::map<std::string, std::string> facts_;
};

void check_layout(const SafetensorsFile& file, std::span<const NamedTensor> layout, const CheckpointFacts& facts) {
  std::map<std::string_view, const at::Tensor*> wanted;
  for (const auto& [name, tensor] : layout) wanted.emplace(name, &tensor);
  for (const std::string& name : file.names()) {
    if (name == "checksum") continue;
    const auto found = wanted.find(name);
    if (found == wanted.end())
      facts.refuse(fmt::format("holds '{}', which this model and its rules do not have", printable(name)));
    const std::string here = shape_and_dtype(found->second->scalar_type(), found->second->sizes().vec());
    const std::string there = shape_and_dtype(file.dtype(name), file.shape(name));
    if (here != there) facts.refuse(fmt::format("'{}' is {} there and {} here", printable(name), there, here));
    wanted.erase(found);
  }
  if (!wanted.empty()) facts.refuse(fmt::format("lacks '{}'", printable(wanted.begin()->first)));
}

}  // namespace

fs::path checkpoint_file(const fs::path& folder, std::int64_t step) {
  return folder / fmt::format("{}{:09}{}", kPrefix, step, kSuffix);
}

std::uintmax_t write_checkpoint(const fs::path& folder, const Checkpoint& checkpoint, std::int64_t keep) {
  TORCH_CHECK(checkpoint.step >= 1 && keep >= 1, "no checkpoint of step ", checkpoint.step, ", and none of ", keep);
  make_checkpoint_folder(folder);
  remove_leftovers(folder);
  const fs::path file = checkpoint_file(folder, checkpoint.step);
  write_safetensors(file, checkpoint.tensors,
                    {{"format", kCheckpointFormat},
                     {"job", checkpoint.job},
                     {"step", fmt::format("{}", checkpoint.step)},
                     {"tokens", fmt::format("{}", checkpoint.tokens)},
                     {"seconds", fmt::format("{}", checkpoint.seconds)},
                     {"evaluated", checkpoint.evaluated ? "1" : "0"},
                     {"corpus", checkpoint.corpus},
                     {"environment", checkpoint.environment}},
                    {.checksum = true, .fault_points = "checkpoint"});
  const std::uintmax_t size = fs::file_size(file);
  fault_point("checkpoint.prune");
  std::int64_t kept = 0;
  std::error_code ignored;
  for (const auto& [step, old] : list_checkpoints(folder))
    if (step > checkpoint.step || ++kept > keep) fs::remove(old, ignored);
  return size;
}

Checkpoint read_checkpoint(const fs::path& path, const std::string& job, std::span<const NamedTensor> layout) {
  if (is_link(path)) throw DataError(printable(path.string(), 4096), "is a link; a checkpoint is a plain file");
  const SafetensorsFile file(path);
  file.verify_checksum();
  CheckpointFacts facts(path, file.metadata());
  if (const std::string format = facts.text("format"); format != kCheckpointFormat)
    facts.refuse(fmt::format("its format is '{}'; this program reads '{}'", printable(format), kCheckpointFormat));
  Checkpoint result;
  result.job = facts.text("job");
  if (result.job != job) facts.refuse(fmt::format("is of job {}, not of {}", printable(result.job), job));
  result.step = facts.number<std::int64_t>("step", 1);
  if (path.filename() != checkpoint_file("", result.step))
    facts.refuse(fmt::format("is of step {}; its name says another", result.step));
  result.tokens = facts.number<std::int64_t>("tokens", 0);
  result.seconds = facts.number<double>("seconds", 0);
  result.evaluated = facts.number<std::int64_t>("evaluated", 0) != 0;
  result.corpus = facts.text("corpus");
  result.environment = facts.text("environment");
  facts.expect_no_more();
  check_layout(file, layout, facts);
  for (const auto& named : layout) result.tensors.emplace_back(named.first, file.tensor(named.first));
  return result;
}

FoundCheckpoint find_checkpoint(const fs::path& folder, const std::string& job, std::span<const NamedTensor> layout,
                                std::int64_t last_step) {
  FoundCheckpoint found;
  if (is_link(folder)) {
    found.refused.push_back(fmt::format("{}: is a link; its files are not used", folder.filename().string()));
    return found;
  }
  for (const auto& [step, file] : list_checkpoints(folder)) {
    try {
      if (step > last_step)
        throw DataError(file.string(), fmt::format("run.db has whole rows only up to step {}", last_step));
      found.checkpoint = read_checkpoint(file, job, layout);
      return found;
    } catch (const Error& error) {
      // The message names the whole path; the folder is known.
      std::string why = error.what();
      if (const std::string parent = folder.string() + "/"; why.starts_with(parent)) why.erase(0, parent.size());
      found.refused.push_back(why);
    }
  }
  return found;
}

std::vector<fs::path> checkpoint_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (auto& [step, file] : list_checkpoints(folder)) files.push_back(std::move(file));
  return files;
}

void remove_checkpoints(const fs::path& folder) {
  if (is_link(folder)) return;
  remove_leftovers(folder);
  std::error_code ignored;
  for (const auto& [step, file] : list_checkpoints(folder)) fs::remove(file, ignored);
  ::rmdir(folder.c_str());  // fails where something else is in it
}

}  // namespace equisweep
