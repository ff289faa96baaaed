#pragma once
// A sweep as its file says it, read and checked: the input of the plan.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/role.h"
#include "core/run_state.h"

namespace equisweep {

/// A value of an option: the same for every model, or one for each architecture.
class OptionValue {
 public:
  static constexpr std::string_view kKey = "by_architecture";

  explicit OptionValue(nlohmann::json value) : value_(std::move(value)) {}
  /// `values` is an object by name of architecture.
  static OptionValue by_architecture(nlohmann::json values);

  /// The value for a model of `architecture`; nullptr where none is given.
  const nlohmann::json* value_for(std::string_view architecture) const;
  /// The object of values by architecture; nullptr where one value serves all.
  const nlohmann::json* each() const { return by_architecture_ ? &value_ : nullptr; }
  /// As it stands in a sweep file: the value, or {"by_architecture": {...}}.
  nlohmann::json as_written() const;

 private:
  nlohmann::json value_;
  bool by_architecture_ = false;
};

/// An option of a stack entry with every value that it takes; several values make it an axis of its stack.
struct StackOption {
  std::string path;  ///< within the entry: "lr", "polar.steps"
  std::vector<OptionValue> values;
};

struct StackEntry {
  std::string name;  ///< default, matrix, embedding, ...
  SourcePosition where;
  bool optional = false;             ///< of a named stack (builtin/...): a sweep need not have a weight for it
  std::vector<StackOption> options;  ///< as given, `extends` resolved; "rule" is one of them
  bool broken = false;               ///< an option has a problem: the others cannot be judged together
};

struct StackSpec {
  std::string name;
  SourcePosition where;
  bool baseline = false;
  std::vector<StackEntry> entries = {};
};

struct ModelSpec {
  std::string name;       ///< as under grid.model
  nlohmann::json config;  ///< complete, see resolve_model()
  std::int64_t parameters = 0;
  std::vector<Role> roles;  ///< of its weights, each once
  bool has_role(Role role) const { return std::find(roles.begin(), roles.end(), role) != roles.end(); }
};

/// Some points of a sweep: a key that is left out stands for every value of its axis.
struct Selection {
  SourcePosition where = {};
  std::optional<std::string> model = {}, stack = {};
  std::optional<std::string> phase = {};  ///< tune or confirm; of --only alone
  std::optional<double> lr_scale = {};
  std::optional<std::int64_t> seed = {};
  nlohmann::json axes = nlohmann::json::object();  ///< values of the stack's own axes by path: {"embedding.lr": 0.1}
};

/// Which points a sweep has: the product of the lists with each row of `zip`, less `exclude`, then `include`. An axis that
/// rows of `zip` give has no list.
struct Grid {
  SourcePosition where = {};
  std::vector<std::string> models = {}, stacks = {};
  std::vector<double> lr_scales = {};
  std::vector<std::int64_t> seeds = {};
  std::vector<Selection> zip = {}, exclude = {}, include = {};
  bool models_named = false;  ///< the file names models, though init_from says what the model is
};

/// `tune`: every point of the grid runs on `seeds`, and the best of each (model, stack) on `confirm_seeds` (sweeps/tune.h).
struct TuneSpec {
  std::vector<std::int64_t> seeds, confirm_seeds;  ///< no seed is in both
  std::int64_t extend = 0;                         ///< how often the grid may grow at an edge where the best lies
};

/// `retry`: which ends of an attempt are followed by another attempt.
struct RetrySpec {
  int max = 0;  ///< further attempts of a job
  std::set<RunState> on = {};
};

/// `checkpoint`: how often a run is saved, and how many of the last are kept.
struct CheckpointSpec {
  std::optional<std::int64_t> every = {};  ///< steps; none: by time alone
  double minutes = 10;
  std::int64_t keep = 2;
};

/// `resources`: what a job is given. None of it is part of a job.
struct ResourcesSpec {
  std::optional<int> gpus = {};        ///< 1: a GPU is needed, 0: the CPU is used; none: a GPU where there is one
  int slots_per_gpu = 1;               ///< jobs that share a GPU
  std::optional<int> threads = {};     ///< CPU threads of a job; none: the cores are divided among the slots
  std::optional<double> minutes = {};  ///< longest time of an attempt, which then ends as `timeout`
};

struct SweepSpec {
  std::string name, notes;
  std::vector<std::string> tags;
  nlohmann::json data, train, schedule, log, stop;  ///< complete
  nlohmann::json init_from;                         ///< {path, content} (sweeps/initial_weights.h), or null
  std::optional<TuneSpec> tune;                     ///< grid.seeds are then its seeds
  RetrySpec retry;
  CheckpointSpec checkpoint;
  ResourcesSpec resources;
  nlohmann::json report;  ///< {title, figures}, complete
  Grid grid;
  std::vector<ModelSpec> models;  ///< each that a point names
  std::vector<StackSpec> stacks;  ///< each that a point names
  std::string file, text;         ///< the sweep file, and its text as written
};

/// Reads a sweep file. Everything is checked that can be without data or memory for a model; throws UsageError listing every
/// problem with its place. `sets` are "path=value" of --set: they replace values before anything is checked.
SweepSpec read_sweep(std::string_view text, const std::string& file, std::span<const std::string> sets = {});

/// The same for a file on disk.
SweepSpec read_sweep_file(const std::filesystem::path& file, std::span<const std::string> sets = {});

/// Takes out of a job's config what only a model with routers can use: train.router and the diagnostics of routers.
void drop_router_keys(nlohmann::json& config);

}  // namespace equisweep
