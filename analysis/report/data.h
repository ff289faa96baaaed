#pragma once
// What a sweep's database says, as the sections read it. Loaded once, from one consistent snapshot.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "analysis/statistics/bootstrap.h"
#include "analysis/statistics/statistics.h"
#include "core/run_state.h"
#include "core/run_store.h"

namespace equisweep {

struct RunRecord {
  std::int64_t run = 0;
  std::string job;
  RunState state = RunState::queued;
  std::string message;
  std::int64_t attempt = 0;
  std::int64_t parameters = 0;
  nlohmann::json config, corpus;  ///< empty objects where the text is not JSON
  std::vector<EvalRow> evals;     ///< by step; a loss that was not a number is NaN
  bool pending() const;           ///< may still become a result without a person's help
  /// Final validation loss: of the last evaluation of a done run. +infinity for a diverged, failed or otherwise lost run
  /// and for a loss that is not finite; NaN while pending.
  double final_loss() const;
};

/// One cell of the grid with the run that fills it.
struct CellRecord {
  std::size_t model = 0, stack = 0;  ///< indices into ReportData
  double lr_scale = 1;
  std::int64_t seed = 0;
  std::string axes;   ///< JSON
  std::string phase;  ///< "tune" or "confirm" in a sweep that tunes, else empty
  const RunRecord* run = nullptr;
};

/// One learning-rate point of a (model, stack): all its seeds.
struct LrPoint {
  double lr_scale = 1;
  std::string axes;
  std::vector<const CellRecord*> cells = {};  ///< by seed
  bool complete = true;                       ///< no seed is pending
  double mean = 0;       ///< of the final losses that are not pending; one diverged seed makes it infinite
  std::size_t lost = 0;  ///< seeds that diverged or failed
};

/// One stack on one model.
struct Arm {
  std::size_t model = 0, stack = 0;
  std::vector<LrPoint> points = {};  ///< by lr_scale, then axes
  std::size_t best = 0;              ///< lowest mean, complete points first; ties go to the smaller lr_scale
  const LrPoint& chosen() const { return points[best]; }
};

class ReportData {
 public:
  /// Throws DatabaseError.
  explicit ReportData(const std::filesystem::path& sweep_db);
  ~ReportData();
  ReportData(const ReportData&) = delete;
  ReportData& operator=(const ReportData&) = delete;

  std::map<std::string, std::string> meta;
  std::vector<std::string> models, stacks;       ///< in the order of the plan
  std::optional<std::size_t> baseline;           ///< index of the stack marked so
  std::vector<std::unique_ptr<RunRecord>> runs;  ///< of cells that are not retired, in the order of the plan
  std::vector<CellRecord> cells;
  IntervalMethod intervals = {};  ///< of losses and of their differences; what the report was asked for
  /// Models x stacks, in order; only those with cells. In a sweep that tunes, these are the runs on fresh seeds that confirm
  /// a chosen point: claims rest on them alone.
  std::vector<Arm> arms;
  std::vector<Arm> tuning_arms;  ///< those that chose the point: of the runs that tune, or `arms`
  bool tuned = false;            ///< the sweep tunes

  std::string name() const;  ///< of the sweep
  const Arm* arm(std::size_t model, std::size_t stack) const;
  const Arm* baseline_arm(std::size_t model) const;
  /// Seeds of the cells of a phase, sorted.
  std::vector<std::int64_t> seeds(const std::string& phase) const;
  /// Of the sweep file's `report`; null where it does not say.
  nlohmann::json setting(const char* key) const;
  std::size_t count(RunState state) const;
  std::size_t results() const;  ///< runs that are done or diverged
  bool complete() const;        ///< no run is pending

  /// Unigram entropy of the corpus of a run, nats per token; NaN if unknown.
  static double unigram_entropy(const RunRecord& run);

  SQLite::Database& db() const { return *db_; }
  const std::filesystem::path& folder() const { return folder_; }  ///< of sweep.db

 private:
  std::unique_ptr<SQLite::Database> db_;
  std::filesystem::path folder_;
};

/// The losses of a point that are finite, with their seeds, by seed.
std::map<std::int64_t, double> finite_losses(const LrPoint& point);

}  // namespace equisweep
