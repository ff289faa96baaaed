#pragma once
// A sweep as its file says it, read and checked: the input of the plan.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/role.h"

namespace equisweep {

/// An option of a stack entry with every value that it takes; several values make it an axis of its stack. A value that
/// depends on the architecture is the object {"by_architecture": {"qwen3": ..., ...}}.
struct StackOption {
  std::string path;  ///< within the entry: "lr", "polar.steps"
  std::vector<nlohmann::json> values;
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

struct SweepSpec {
  std::string name, notes;
  nlohmann::json data, train, schedule, log, stop;  ///< complete
  nlohmann::json init_from;                         ///< {path, content} (sweeps/initial_weights.h), or null
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
