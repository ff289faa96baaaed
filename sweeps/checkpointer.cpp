#include "sweeps/checkpointer.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

std::string megabytes(std::uintmax_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

std::uintmax_t size_of(const std::filesystem::path& file) {
  std::error_code missing;
  const std::uintmax_t size = std::filesystem::file_size(file, missing);
  return missing ? 0 : size;
}

}  // namespace

Checkpointer::Checkpointer(std::filesystem::path folder, const CheckpointPolicy& policy, RunStore& store,
                           std::function<Clock::time_point()> now)
    : folder_(std::move(folder)), policy_(policy), store_(store), now_(std::move(now)), last_(now_()) {}

bool Checkpointer::due(std::int64_t step) const {
  if (policy_.every > 0 && step % policy_.every == 0) return true;
  return policy_.minutes > 0 && now_() - last_ >= std::chrono::duration<double>(60 * policy_.minutes);
}

bool Checkpointer::write(const Checkpoint& checkpoint) { return write(checkpoint, policy_.keep); }
bool Checkpointer::write_last(const Checkpoint& checkpoint) { return write(checkpoint, 1); }

bool Checkpointer::write(const Checkpoint& checkpoint, std::int64_t keep) {
  // A run resumes only where all rows before are there.
  store_.flush();
  store_.check_owner();
  const auto start = Clock::now();
  last_ = now_();  // also after a failure: a full disk is not tried again at every step
  try {
    const std::uintmax_t size = write_checkpoint(folder_, checkpoint, keep);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    store_.add_event(
        checkpoint.step, "checkpoint",
        fmt::format("{}, {} in {:.2f} s", checkpoint_file("", checkpoint.step).string(), megabytes(size), seconds));
    return true;
  } catch (const Error& error) {
    store_.add_event(
        checkpoint.step, "warning",
        fmt::format("no checkpoint of step {}: {}; the run goes on, older checkpoints stay", checkpoint.step, error.what()));
    return false;
  }
}

std::string space_problem(const SpaceNeeded& needed, const CheckpointPolicy& policy, std::uintmax_t available,
                          const SpaceHeld& held) {
  const std::uintmax_t database = needed.database - std::min(needed.database, held.database);
  // One more than is kept: the oldest goes only after the newest is durable.
  const auto fits = [&](std::int64_t keep) {
    const std::uintmax_t files = policy.on() ? static_cast<std::uintmax_t>(keep) + 1 : 0;
    std::uintmax_t total = 0;
    if (__builtin_mul_overflow(files, needed.checkpoint, &total)) return false;
    // Those that are there are replaced one by one; more than are kept go when the next one is whole.
    for (std::size_t i = 0; i < held.checkpoints.size() && i + 1 < files; ++i)
      total -= std::min(held.checkpoints[i], needed.checkpoint);
    return !__builtin_add_overflow(total, database, &total) && total <= available;
  };
  if (fits(policy.keep)) return "";
  std::string what = fmt::format("{} are free, and this job needs {} {}for its database", megabytes(available),
                                 megabytes(database), held.database > 0 ? "more " : "");
  if (policy.on()) what += fmt::format(" and {} checkpoints of {}", policy.keep + 1, megabytes(needed.checkpoint));
  if (policy.on() && !held.checkpoints.empty()) what += fmt::format(", of which {} are there", held.checkpoints.size());
  what += "; make room";
  if (policy.on() && policy.keep > 1 && fits(1)) what += ", or keep one (checkpoint: {keep: 1} in the sweep file)";
  return what;
}

void probe_run_folder(const std::filesystem::path& run_dir, const SpaceNeeded& needed, const CheckpointPolicy& policy) {
  const std::filesystem::path probe = run_dir / "probe";
  write_file_atomically(probe, std::string(4096, ' '));
  ::unlink(probe.c_str());
  struct statvfs disk = {};
  if (::statvfs(run_dir.c_str(), &disk) != 0)
    throw Error(fmt::format("{}: {}", run_dir.string(), std::generic_category().message(errno)));
  SpaceHeld held;
  for (const auto& file : checkpoint_files(run_dir / kCheckpoints)) held.checkpoints.push_back(size_of(file));
  held.database = size_of(run_dir / "run.db");
  const std::uintmax_t available = std::uintmax_t{disk.f_bavail} * disk.f_frsize;
  if (const std::string why = space_problem(needed, policy, available, held); !why.empty())
    throw Error(fmt::format("{}: {}", run_dir.string(), why));
}

}  // namespace equisweep
