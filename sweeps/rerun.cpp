#include "sweeps/rerun.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <array>
#include <bit>
#include <map>
#include <nlohmann/json.hpp>

#include "core/database.h"
#include "core/error.h"
#include "core/run_store.h"
#include "core/scratch_folder.h"
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
  const auto environment = nlohmann::json::parse(attempt.environment, nullptr, /*allow_exceptions=*/false);
  if (!environment.is_object()) return result;
  for (const char* key : {"equisweep", "commit", "modified", "libtorch", "compiler", "cpu", "cuda", "os"})
    if (const auto found = environment.find(key); found != environment.end())
      result[key] = found->is_string() ? found->get<std::string>() : found->dump();
  return result;
}

struct Measured {
  std::optional<double> loss;
  bool operator==(const Measured& other) const {
    if (loss.has_value() != other.loss.has_value()) return false;
    return !loss || std::bit_cast<std::uint64_t>(*loss) == std::bit_cast<std::uint64_t>(*other.loss);
  }
};

std::map<std::int64_t, Measured> losses(SQLite::Database& db, const char* view) {
  std::map<std::int64_t, Measured> result;
  SQLite::Statement query(db, fmt::format("SELECT step, loss FROM {}", view));
  while (query.executeStep())
    result[query.getColumn(0).getInt64()].loss =
        query.getColumn(1).isNull() ? std::nullopt : std::optional(query.getColumn(1).getDouble());
  return result;
}

}  // namespace

RerunResult compare_runs(const fs::path& recorded, const fs::path& again) {
  const auto then = open_read_only(recorded), now = open_read_only(again);
  return in_database(recorded, [&] {
    RerunResult result;
    struct Curve {
      const char *view, *what;
      std::int64_t RerunResult::*count;
    };
    for (const Curve& curve : {Curve{"loss_curve", "training loss", &RerunResult::steps},
                               Curve{"eval_curve", "validation loss", &RerunResult::evaluations}}) {
      const auto before = losses(*then, curve.view);
      for (const auto& [step, measured] : losses(*now, curve.view)) {
        const auto found = before.find(step);
        if (found == before.end()) continue;  // the recorded run ended earlier
        ++(result.*curve.count);
        if (found->second == measured || (result.difference && result.difference->step <= step)) continue;
        result.difference = {.step = step, .what = curve.what, .recorded = found->second.loss, .again = measured.loss};
      }
    }
    if (result.steps == 0) throw DatabaseError(recorded.string(), "has no step in common with the new training");
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
  worker.device = options.device.empty() ? attempt.device : options.device;
  worker.threads = options.threads > 0 ? options.threads : static_cast<int>(attempt.threads);
  worker.verbose = options.verbose;
  worker.checkpoint = {.every = 0, .minutes = 0, .keep = 1};
  worker.stop_after = options.steps;
  const ExitCode code = run_worker(worker);
  const bool complete = code == ExitCode::ok || (code == ExitCode::preempted && options.steps > 0);
  if (!complete) throw Error("the training did not get to its end; nothing is said about the recorded run", code);
  return compare_runs(recorded, scratch.path() / "run.db");
}

}  // namespace equisweep
