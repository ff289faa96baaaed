#pragma once
// What the databases of sweeps say, as the sections read it. Loaded once, from one consistent snapshot of each.
//
// What is kept in memory does not grow with the steps of a run: of its evaluations the first and the last. What a section
// wants of the others it reads when it needs them.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "analysis/report/live.h"
#include "analysis/report/source.h"
#include "analysis/statistics/bootstrap.h"
#include "analysis/statistics/statistics.h"
#include "core/run_state.h"
#include "core/run_store.h"

namespace equisweep {

struct RunRecord {
  std::int64_t run = 0;   ///< in the database of its sweep
  std::size_t sweep = 0;  ///< index into ReportData::sweeps
  std::string job;
  RunState state = RunState::queued;
  std::string message;
  std::int64_t attempt = 0;
  std::int64_t parameters = 0;
  std::vector<LiveAttempt> live = {};                      ///< which of its rows count
  nlohmann::json config, corpus;                           ///< empty objects where the text is not JSON
  std::optional<EvalRow> first_eval = {}, last_eval = {};  ///< by step; a loss that was not a number is NaN
  bool faulted = false;                                    ///< made to fail on purpose (core/fault_point.h)
  bool pending() const;                                    ///< may still become a result without a person's help
  bool gone() const;  ///< ended without a result: failed, out of memory or time, lost, cancelled
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
  bool complete = true;                       ///< every seed has a result
  bool partial = false;                       ///< has fewer seeds than another point of its stack, and so is no trial
  double mean = 0;       ///< of the final losses of results; one diverged seed makes it infinite, and so does none
  std::size_t lost = 0;  ///< seeds that diverged or ended without a result
  std::size_t gone = 0;  ///< those of them that ended without a result
  std::set<std::int64_t> seeds() const;
};

/// One stack on one model.
struct Arm {
  std::size_t model = 0, stack = 0;
  std::vector<LrPoint> points = {};  ///< by lr_scale, then axes
  /// Lowest mean of the trials of which every seed has a result; ties go to the smaller lr_scale. Where there is none, that
  /// of the others, partial points last.
  std::size_t best = 0;
  const LrPoint& chosen() const { return points[best]; }
  std::size_t trials() const;  ///< points with all seeds
  std::set<std::int64_t> seeds() const;
  /// A trial that could have been chosen had all its runs a result: some ended without one, none diverged, and the seeds
  /// that it has are not worse than the same seeds of the chosen point. Null where the choice is certain, or still pending.
  const LrPoint* rival() const;
};

/// One of the sweeps of a report.
struct SweepRecord {
  std::string name;              ///< distinct among the sweeps of the report
  std::filesystem::path folder;  ///< of sweep.db
  std::map<std::string, std::string> meta;
  std::size_t runs = 0, results = 0;  ///< how many it has, and how many of them are done or diverged
};

class ReportData {
 public:
  /// Throws DatabaseError; Error (report_refused) where several sweeps do not compare, and says what to do.
  explicit ReportData(const ReportSource& source);
  ~ReportData();
  ReportData(const ReportData&) = delete;
  ReportData& operator=(const ReportData&) = delete;

  std::vector<SweepRecord> sweeps;               ///< in the order given
  std::vector<std::string> models, stacks;       ///< in the order of the plan
  std::optional<std::size_t> baseline;           ///< index of the stack marked so
  std::vector<std::unique_ptr<RunRecord>> runs;  ///< of cells that are not retired, in the order of the plan
  std::vector<CellRecord> cells;
  IntervalMethod intervals = {};  ///< of losses and of their differences; what the report was asked for
  /// Models x stacks, in order; only those with cells. In a sweep that tunes, these are the runs on fresh seeds that confirm
  /// a chosen point: claims rest on them alone.
  std::vector<Arm> arms;
  std::vector<Arm> tuning_arms;     ///< those that chose the point: of the runs that tune, or `arms`
  bool tuned = false;               ///< the sweeps tune
  std::vector<std::string> mixed;   ///< settings in which sweeps differ that are compared all the same, a sentence each
  std::vector<std::string> joined;  ///< what else is to know about how the sweeps were joined, a sentence each

  std::string name() const;  ///< of the sweep, "a + b" of several
  const Arm* arm(std::size_t model, std::size_t stack) const;
  const Arm* baseline_arm(std::size_t model) const;
  const Arm* tuning_arm(std::size_t model, std::size_t stack) const;
  bool chose() const;  ///< some stack has several points, of which one was chosen
  /// Seeds of the cells of a phase, sorted.
  std::vector<std::int64_t> seeds(const std::string& phase) const;
  /// Of the first sweep file's `report`; null where it does not say.
  nlohmann::json setting(const char* key) const;
  std::size_t count(RunState state) const;
  std::size_t results() const;  ///< runs that are done or diverged
  bool complete() const;        ///< no run is pending

  /// Unigram entropy of the corpus of a run, nats per token; NaN if unknown.
  static double unigram_entropy(const RunRecord& run);

  /// The evaluations of a run that count, by step.
  std::vector<EvalRow> evals(const RunRecord& run) const;

  /// Visits the rows of a run that count; see visit_live().
  void visit(const RunRecord& run, const std::string& sql, const RowVisitor& visitor) const {
    visit_live(db(run), run.run, run.live, sql, visitor);
  }

  /// The database that holds `run` under its number.
  SQLite::Database& db(const RunRecord& run) const { return *databases_[run.sweep]; }
  SQLite::Database& db_of_sweep(std::size_t sweep) const { return *databases_[sweep]; }

 private:
  std::vector<std::unique_ptr<SQLite::Database>> databases_;
};

/// The losses of a point that are finite, with their seeds, by seed.
std::map<std::int64_t, double> finite_losses(const LrPoint& point);

/// Why the seeds of a point are copies of one run and no replicates, as the end of a sentence: they began from the same
/// weights, or ended at the same loss to the last bit. Empty where they are not, or there is one.
std::string why_copies(const LrPoint& point);

}  // namespace equisweep
