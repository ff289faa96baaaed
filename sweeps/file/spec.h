#pragma once
// A sweep as its file says it, read and checked: the input of the plan.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/role.h"

namespace equisweep {

/// An option of a stack entry with every value that it takes; several values make it an axis of its stack.
struct StackOption {
  std::string path;  ///< within the entry: "lr", "polar.steps"
  std::vector<nlohmann::json> values;
};

struct StackEntry {
  std::string name;  ///< default, matrix, embedding, ...
  SourcePosition where;
  std::vector<StackOption> options;  ///< as given, `extends` resolved; "rule" is one of them
  bool broken = false;               ///< an option has a problem: the others cannot be judged together
};

struct StackSpec {
  std::string name;
  SourcePosition where;
  bool baseline = false;
  std::vector<StackEntry> entries;
};

struct ModelSpec {
  std::string name;       ///< as under grid.model
  nlohmann::json config;  ///< complete, see resolve_model()
  std::int64_t parameters = 0;
  std::vector<Role> roles;  ///< of its weights, each once
  bool has_role(Role role) const { return std::find(roles.begin(), roles.end(), role) != roles.end(); }
};

struct SweepSpec {
  std::string name, notes;
  nlohmann::json data, train, schedule, log, stop;  ///< complete
  nlohmann::json init_from;                         ///< {path, content} (sweeps/initial_weights.h), or null
  std::vector<ModelSpec> models;                    ///< the axes of the grid ...
  std::vector<StackSpec> stacks;
  std::vector<double> lr_scales;
  std::vector<std::int64_t> seeds;
  std::string file, text;  ///< the sweep file, and its text as written
};

/// Reads a sweep file. Everything is checked that can be without data or memory for a model; throws UsageError listing every
/// problem with its place. `sets` are "path=value" of --set: they replace values before anything is checked.
SweepSpec read_sweep(std::string_view text, const std::string& file, std::span<const std::string> sets = {});

/// The same for a file on disk.
SweepSpec read_sweep_file(const std::filesystem::path& file, std::span<const std::string> sets = {});

/// Takes out of a job's config what only a model with routers can use: train.router and the diagnostics of routers.
void drop_router_keys(nlohmann::json& config);

}  // namespace equisweep
