#include "sweeps/rerun.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "core/database.h"
#include "core/document.h"
#include "core/error.h"
#include "core/run_store.h"
#include "core/scratch_folder.h"
#include "sweeps/device.h"
#include "sweeps/worker.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

struct RecordedAttempt {
  std::string device, environment;
  std::int64_t threads = 0;
};

RecordedAttempt newest_recorded(SQLite::Database& db, const fs::path& file) {
  SQLite::Statement query(db, "SELECT device, environment, threads FROM attempts ORDER BY attempt DESC LIMIT 1");
  if (!query.executeStep()) throw DatabaseError(file.string(), "has no attempt: the job has never started");
  return {query.getColumn(0).getString(), query.getColumn(1).getString(), query.getColumn(2).getInt64()};
}

/// What decides the last bits of a loss, in words, by name.
std::map<std::string, std::string> circumstances(const RecordedAttempt& attempt) {
  std::map<std::string, std::string> result = {{"device", attempt.device}, {"threads", fmt::format("{}", attempt.threads)}};
  const nlohmann::json environment = object_of(attempt.environment);
  for (const char* key : {"equisweep", "commit", "modified", "libtorch", "compiler", "cpu", "cuda", "os"})
    if (const auto found = environment.find(key); found != environment.end())
      result[key] = found->is_string() ? found->get<std::string>() : found->dump();
  return result;
}

/// One number of a step, as a text that no two of them share; nothing where it was not measured.
std::optional<std::string> number_in(const SQLite::Column& value, bool was_nan) {
  if (was_nan) return "nan";
  if (value.isNull()) return std::nullopt;
  return fmt::format("{}", value.getDouble());
}

/// Columns of a curve, and which of them a row must have.
struct Curve {
  const char *columns, *view;
  std::vector<const char*> what;
  std::vector<int> bits;  ///< of `nonfinite`
};
using Numbers = std::vector<std::optional<std::string>>;

std::map<std::int64_t, Numbers> rows_of(SQLite::Database& db, const Curve& curve) {
  std::map<std::int64_t, Numbers> result;
  SQLite::Statement query(db, fmt::format("SELECT step, nonfinite, {} FROM {}", curve.columns, curve.view));
  while (query.executeStep()) {
    Numbers& numbers = result[query.getColumn(0).getInt64()];
    const std::int64_t nonfinite = query.getColumn(1).getInt64();
    for (std::size_t i = 0; i < curve.what.size(); ++i)
      numbers.push_back(number_in(query.getColumn(static_cast<int>(i) + 2), (nonfinite >> curve.bits[i] & 1) != 0));
  }
  return result;
}

struct End {
  std::string state, message;
};

End end_of(SQLite::Database& db) {
  SQLite::Statement query(db, "SELECT state, message FROM runs");
  if (!query.executeStep()) return {};
  return {query.getColumn(0).getString(), query.getColumn(1).getString()};
}

std::string in_words(const End& end) {
  return end.message.empty() ? end.state : fmt::format("{} ({})", end.state, printable(end.message, 400));
}

}  // namespace

RerunResult compare_runs(const fs::path& recorded, const fs::path& again, std::int64_t limit) {
  const auto then = open_read_only(recorded), now = open_read_only(again);
  return in_database(recorded, [&] {
    RerunResult result;
    const auto differ = [&](std::int64_t step, const char* what, const std::optional<std::string>& before,
                            const std::optional<std::string>& after) {
      if (!result.difference || step < result.difference->step)
        result.difference = {
            .step = step, .what = what, .recorded = before.value_or("none"), .again = after.value_or("none")};
    };
    const auto compare = [&](const Curve& curve, std::int64_t& count, std::int64_t last) {
      const auto before = rows_of(*then, curve), after = rows_of(*now, curve);
      for (const auto& [step, numbers] : after) {
        const auto found = before.find(step);
        if (found == before.end()) {
          if (limit == 0) differ(step, curve.what[0], std::nullopt, numbers[0]);
          continue;
        }
        ++count;
        for (std::size_t i = 0; i < numbers.size(); ++i)
          if (numbers[i] != found->second[i] && (i == 0 || (numbers[i] && found->second[i])))
            differ(step, curve.what[i], found->second[i], numbers[i]);
      }
      for (const auto& [step, numbers] : before)
        if (step <= last && !after.contains(step)) differ(step, curve.what[0], numbers[0], std::nullopt);
    };
    constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();
    compare({"loss, lr, grad_norm", "loss_curve", {"training loss", "learning rate", "gradient norm"}, {1, 2, 3}},
            result.steps, limit > 0 ? limit : kAll);
    // A worker that stops after a step has not always evaluated it.
    compare({"loss", "eval_curve", {"validation loss"}, {1}}, result.evaluations, limit > 0 ? limit - 1 : kAll);
    if (result.steps == 0) throw DatabaseError(recorded.string(), "has no step in common with the new training");
    const End before = end_of(*then), after = end_of(*now);
    const auto state = run_state_from_name(after.state);
    if (before.state != after.state && (limit == 0 || (state && is_result(*state)))) {
      result.recorded_end = in_words(before);
      result.end = in_words(after);
    }
    const auto was = circumstances(newest_recorded(*then, recorded)), is = circumstances(newest_recorded(*now, again));
    for (const auto& [key, value] : is) {
      const auto found = was.find(key);
      if (found == was.end() || found->second != value)
        result.environment.push_back(
            fmt::format("{}: {} recorded, {} now", key, found == was.end() ? "not" : found->second, value));
    }
    return result;
  });
}

RerunResult rerun_job(const RerunOptions& options) {
  const fs::path recorded = options.run_dir / "run.db";
  RecordedAttempt attempt;
  {
    const auto db = open_read_only(recorded);
    attempt = in_database(recorded, [&] { return newest_recorded(*db, recorded); });
  }
  const ScratchFolder scratch("equisweep-rerun-");
  fs::copy_file(options.run_dir / "config.yaml", scratch.path() / "config.yaml");
  WorkerOptions worker;
  worker.run_dir = scratch.path();
  worker.corpora = options.corpora;
  worker.device = checked_device(options.device.empty() ? attempt.device : options.device);
  worker.threads = options.threads > 0 ? options.threads : static_cast<int>(attempt.threads);
  worker.verbose = options.verbose;
  worker.checkpoint = {.every = 0, .minutes = 0, .keep = 1};
  worker.stop_after = options.steps;
  const ExitCode code = run_worker(worker);
  const bool complete = code == ExitCode::ok || (code == ExitCode::preempted && options.steps > 0);
  if (!complete) throw Error("the training did not get to its end; nothing is said about the recorded run", code);
  return compare_runs(recorded, scratch.path() / "run.db", options.steps);
}

}  // namespace equisweep
