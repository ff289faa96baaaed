#pragma once
// The table of the keys of a sweep file, and how a node becomes the value of a key.
//
// One table: the reader, docs/sweep-file.md and error messages come from it. The options of a stack entry and the dimensions
// of a model are the tables of optimizers/rules.h and models/models.h.

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/field.h"
#include "sweeps/file/reader.h"

namespace equisweep {

/// The largest seed: every integer up to it is exact in a double.
inline constexpr double kMaxSeed = 9007199254740991;  // 2^53 - 1

/// Every key of a sweep file. Fields of one value that takes_list() are the fields of each value. `stacks` and `model` are
/// maps without fields here (their keys are names of stacks, and dimensions).
std::span<const Field> sweep_fields();

/// Whether the value at `path` ("grid.seed", "tags") is one value or a list of values. `exclude` and `include` are lists of
/// maps.
bool takes_list(std::string_view path);

/// Reports every key of `map` that is not in `fields`, with the nearest name.
void check_keys(const Node& map, std::span<const Field> fields, const std::string& path, Problems& problems);

/// The value of `field`, maps completed with their defaults; null where a problem was reported.
nlohmann::json read_value(const Node& node, const Field& field, const std::string& path, Problems& problems);

/// The value of `field` in `map`, or its default; a missing required key is a problem. Null if it is optional and absent.
nlohmann::json read_member(const Node& map, const Field& field, const std::string& path, Problems& problems);

/// One value or a list of values of `field`: all of them, in order. An empty list (read_member() takes it where it is the
/// default) and a value that stands twice are problems. The elements of a field that is a list itself are lists. Numbers can
/// be given as {log2: [a, b]} (a, 2a, 4a, ... b), {log: [a, b, n]} (n values in equal ratios), {range: [a, b]} (integers).
std::vector<nlohmann::json> read_values(const Node& node, const Field& field, const std::string& path, Problems& problems);

/// "train.steps", or "steps" at the top.
std::string join_path(const std::string& path, std::string_view key);

/// The tables of docs/sweep-file.md, in Markdown.
std::string sweep_file_reference();

/// The JSON schema of sweep files (draft 2020-12), for editors. What it accepts can still be refused: it knows single
/// values, not how they fit together.
nlohmann::json sweep_file_schema();

}  // namespace equisweep
