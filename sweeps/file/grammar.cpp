#include "sweeps/file/grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "analysis/diagnostics/diagnostics.h"
#include "models/models.h"
#include "optimizers/rules.h"
#include "optimizers/schedule.h"

namespace equisweep {

using nlohmann::json;

namespace {

constexpr double kMaxSeed = 9007199254740991;  // 2^53 - 1
constexpr double kMaxCount = 1e15;

std::vector<Field> log_fields() {
  std::vector<Field> fields;
  for (const DiagnosticInfo& d : diagnostics())
    fields.push_back({.name = std::string(d.name),
                      .kind = FieldKind::map,
                      .default_json = "null",
                      .doc = std::string(d.summary),
                      .fields = d.fields});
  fields.push_back({.name = "weights",
                    .kind = FieldKind::choice,
                    .default_json = "null",
                    .doc = "final: a run that is done leaves its last weights as final.safetensors in its folder",
                    .choices = {"final"}});
  return fields;
}

std::vector<Field> grid_axes() {
  using enum FieldKind;
  return {
      {.name = "model",
       .kind = choice,
       .default_json = "",
       .doc = "architecture and size; can be left out with init_from",
       .choices = model_names()},
      {.name = "stack", .kind = string, .default_json = "null", .doc = "names of `stacks`; all of them if left out"},
      {.name = "lr_scale",
       .kind = number,
       .default_json = "1",
       .doc = "multiplies every lr of the stack",
       .min = 0,
       .above_min = true},
      {.name = "seed", .kind = integer, .default_json = "0", .doc = "of the initial weights", .min = 0, .max = kMaxSeed}};
}

std::vector<Field> optional(std::vector<Field> fields) {
  for (Field& field : fields) field.default_json = "null";
  return fields;
}

std::vector<Field> make_fields() {
  using enum FieldKind;
  const auto copy = [](std::span<const Field> fields) { return std::vector<Field>(fields.begin(), fields.end()); };
  return {
      {.name = "version", .kind = integer, .default_json = "", .doc = "version of this format: 1", .min = 1},
      {.name = "name",
       .kind = string,
       .default_json = "",
       .doc = "name of the sweep and of its folder of results: letters, digits and . _ -, at most 80"},
      {.name = "notes", .kind = string, .default_json = "\"\"", .doc = "what the sweep is for; printed in the report"},
      {.name = "data",
       .kind = map,
       .default_json = "{}",
       .doc = "what is trained on",
       .fields = {{.name = "corpus",
                   .kind = string,
                   .default_json = "\"kjv\"",
                   .doc = "kjv, synthetic, or a folder that `equisweep data prepare` wrote"},
                  {.name = "seq_len",
                   .kind = integer,
                   .default_json = "128",
                   .doc = "tokens in a sequence",
                   .min = 1,
                   .max = 1 << 24},
                  {.name = "batch_tokens",
                   .kind = integer,
                   .default_json = "4096",
                   .doc = "tokens in a step; a multiple of seq_len",
                   .min = 1,
                   .max = 1LL << 40},
                  {.name = "seed",
                   .kind = integer,
                   .default_json = "1",
                   .doc = "order of the data, the same for every run",
                   .min = 0,
                   .max = kMaxSeed},
                  {.name = "target_offset",
                   .kind = integer,
                   .default_json = "1",
                   .doc = "the target of a token is the one this many tokens later",
                   .min = 1,
                   .max = 1024}}},
      {.name = "train",
       .kind = map,
       .default_json = "",
       .doc = "how it is trained",
       .fields = {{.name = "steps",
                   .kind = integer,
                   .default_json = "",
                   .doc = "updates; also the horizon of the schedule",
                   .min = 1,
                   .max = kMaxCount},
                  {.name = "precision",
                   .kind = choice,
                   .default_json = "\"fp32\"",
                   .doc = "of matrix products and activations; weights are fp32 with bf16",
                   .choices = {"fp32", "bf16", "fp64"}},
                  {.name = "grad_clip",
                   .kind = number,
                   .default_json = "1",
                   .doc = "largest 2-norm of the gradient of all weights together; 0 turns clipping off",
                   .min = 0},
                  {.name = "eval",
                   .kind = map,
                   .default_json = "{}",
                   .doc = "validation",
                   .fields = {{.name = "every",
                               .kind = integer,
                               .default_json = "50",
                               .doc = "steps between evaluations; also before the first step and after the last",
                               .min = 1,
                               .max = kMaxCount},
                              {.name = "tokens",
                               .kind = integer,
                               .default_json = "32768",
                               .doc = "validation tokens of an evaluation, the same each time",
                               .min = 1,
                               .max = kMaxCount}}},
                  {.name = "router",
                   .kind = map,
                   .default_json = "null",
                   .doc = "terms added to the loss of models with experts; the loss that is logged is without them",
                   .fields = {{.name = "balance_loss",
                               .kind = number,
                               .default_json = "0",
                               .doc = "coefficient of the load-balancing loss, layers pooled as HuggingFace does",
                               .min = 0},
                              {.name = "z_loss",
                               .kind = number,
                               .default_json = "0",
                               .doc = "coefficient of the mean squared logsumexp of the router logits",
                               .min = 0}}},
                  {.name = "recompute",
                   .kind = boolean,
                   .default_json = "null",
                   .doc = "run each block again in the backward pass instead of keeping what it computed; same numbers"}}},
      {.name = "schedule",
       .kind = map,
       .default_json = "{}",
       .doc = "learning rate over the run",
       .fields = copy(schedule_fields())},
      {.name = "grid",
       .kind = map,
       .default_json = "",
       .doc = "every combination is a job; each key takes one value or a list",
       .fields = grid_axes()},
      {.name = "zip",
       .kind = map,
       .default_json = "null",
       .doc = "lists of the same length whose values move together; an axis stands here or in `grid`",
       .fields = optional(grid_axes())},
      {.name = "exclude",
       .kind = map,
       .default_json = "null",
       .doc = "points that are left out: each map of the list names some values of axes",
       .fields = optional(grid_axes())},
      {.name = "include",
       .kind = map,
       .default_json = "null",
       .doc = "points that are added: each map of the list names some values of axes, the others take all of theirs",
       .fields = optional(grid_axes())},
      {.name = "stacks", .kind = map, .default_json = "", .doc = "update rules by role; see below"},
      {.name = "init_from",
       .kind = string,
       .default_json = "null",
       .doc = "folder in HuggingFace's layout that gives the initial weights; see below"},
      {.name = "model",
       .kind = map,
       .default_json = "null",
       .doc = "dimensions that replace those of every model; see below"},
      {.name = "log",
       .kind = map,
       .default_json = "{}",
       .doc = "diagnostics; those that are named are on",
       .fields = log_fields()},
      {.name = "stop",
       .kind = map,
       .default_json = "{}",
       .doc = "when a run counts as diverged",
       .fields = {{.name = "nonfinite",
                   .kind = boolean,
                   .default_json = "true",
                   .doc = "a loss or gradient norm that is not finite ends the run before the update"},
                  {.name = "loss_above",
                   .kind = map,
                   .default_json = "null",
                   .doc = "a loss above a limit ends the run",
                   .fields = {{.name = "value",
                               .kind = number,
                               .default_json = "",
                               .doc = "the limit, in nats per token",
                               .min = 0,
                               .above_min = true},
                              {.name = "after",
                               .kind = integer,
                               .default_json = "0",
                               .doc = "steps that are let pass",
                               .min = 0,
                               .max = kMaxCount}}}}},
  };
}

/// Keys of the specification that this version does not have.
constexpr auto kUnsupported =
    std::to_array<std::string_view>({"tune", "retry", "resources", "tags", "report", "equivariance", "deterministic"});

json read_list(const Node& node, Problems& problems, const std::string& path) {
  json list = json::array();
  for (const Node& item : node.items) {
    if (item.kind == NodeKind::broken) return nullptr;
    if (item.kind == NodeKind::sequence || item.kind == NodeKind::map) {
      problems.add(item.where, fmt::format("{}: {} is not a number", path, describe(item)), "a list of numbers");
      return nullptr;
    }
    list.push_back(scalar_to_json(item));
  }
  return list;
}

}  // namespace

std::span<const Field> sweep_fields() {
  static const std::vector<Field> fields = make_fields();
  return fields;
}

std::string join_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

void check_keys(const Node& map, std::span<const Field> fields, const std::string& path, Problems& problems) {
  const auto names = names_of(fields);
  for (const Member& member : map.members) {
    if (find_field(fields, member.key) || problems.full()) continue;
    const std::string prefix = path.empty() ? "" : path + ": ";
    if (std::find(kUnsupported.begin(), kUnsupported.end(), member.key) != kUnsupported.end()) {
      problems.add(member.where, fmt::format("{}'{}' is not supported by this version", prefix, member.key), join(names));
    } else {
      problems.add(member.where, fmt::format("{}unknown key '{}'", prefix, printable(member.key, 60)),
                   names.empty() ? "no keys" : join(names), nearest_name(member.key, names));
    }
  }
}

json read_value(const Node& node, const Field& field, const std::string& path, Problems& problems) {
  if (node.kind == NodeKind::broken) return nullptr;
  if (field.kind == FieldKind::map) {
    if (node.kind != NodeKind::map) {
      problems.add(node.where, fmt::format("{}: {} is not a map", path, describe(node)), allowed_values(field));
      return nullptr;
    }
    check_keys(node, field.fields, path, problems);
    json result = json::object();
    for (const Field& f : field.fields)
      if (json value = read_member(node, f, path, problems); !value.is_null()) result[f.name] = std::move(value);
    return result;
  }
  const bool list = field.kind == FieldKind::number_list;
  if (node.kind == NodeKind::map || (node.kind == NodeKind::sequence && !list)) {
    problems.add(node.where, fmt::format("{}: {} is not {}", path, describe(node), describe(field.kind)),
                 allowed_values(field));
    return nullptr;
  }
  const json value = node.kind == NodeKind::sequence ? read_list(node, problems, path) : scalar_to_json(node);
  if (value.is_null()) return nullptr;
  if (const std::string wrong = check_value(field, value); !wrong.empty()) {
    const bool misspelt = field.kind == FieldKind::choice && value.is_string();
    const bool unquoted = field.kind == FieldKind::string && !value.is_string();
    problems.add(
        node.where, fmt::format("{}: {}", path, wrong),
        allowed_values(field) + (unquoted ? fmt::format("; in quotes, '{}' is one", printable(node.scalar, 60)) : ""),
        misspelt ? nearest_name(node.scalar, field.choices) : "");
    return nullptr;
  }
  // The one spelling of equal values that complete() gives.
  return complete({&field, 1}, json{{field.name, value}}, path).at(field.name);
}

json read_member(const Node& map, const Field& field, const std::string& path, Problems& problems) {
  const std::string own = join_path(path, field.name);
  if (const Member* member = map.find(field.name)) return read_value(member->value, field, own, problems);
  if (field.default_json.empty()) {
    problems.add(map.where, fmt::format("key '{}' is missing", own), allowed_values(field));
    return nullptr;
  }
  if (field.default_json == "null") return nullptr;
  return complete({&field, 1}, json::object(), path).at(field.name);
}

}  // namespace equisweep
