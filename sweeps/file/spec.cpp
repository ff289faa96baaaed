#include "sweeps/file/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "analysis/diagnostics/diagnostics.h"
#include "models/models.h"
#include "optimizers/schedule.h"
#include "sweeps/file/grammar.h"
#include "sweeps/file/grid.h"
#include "sweeps/file/reader.h"
#include "sweeps/file/settings.h"
#include "sweeps/file/stacks.h"
#include "sweeps/initial_weights.h"
#include "sweeps/plan.h"

namespace equisweep {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxStacks = 1000;

const Field& field(std::string_view name) { return *find_field(sweep_fields(), name); }

SourcePosition place_of(const Node& map, std::string_view key) {
  const Member* member = map.find(key);
  return member ? member->where : map.where;
}

/// Problems that another table raises, at the place that they are about.
void adopt(const UsageError& error, const SourcePosition& where, const std::string& prefix, Problems& problems) {
  for (const Problem& p : error.problems()) problems.add(where, prefix + p.what, p.allowed, p.nearest);
  if (error.problems().empty()) problems.add(where, prefix + error.what());
}

void check_name(const Node& root, const std::string& name, Problems& problems) {
  const auto alphanumeric = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  const bool good =
      !name.empty() && name.size() <= 80 && alphanumeric(name[0]) &&
      std::all_of(name.begin(), name.end(), [&](char c) { return alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
  if (!good)
    problems.add(root.find("name")->value.where,
                 fmt::format("name: '{}' cannot be the name of a folder", printable(name, 60)),
                 "a letter or digit, then letters, digits and . _ -, at most 80 in all");
}

void check_corpus(const Node& root, const std::string& corpus, Problems& problems) {
  if (!corpus.empty() && corpus.size() <= 4096) return;
  const Member* data = root.find("data");
  problems.add(place_of(data->value, "corpus"), "data.corpus: an empty or endless name", "kjv, synthetic, or a folder");
}

/// What single values cannot show: batches of whole sequences, a schedule that fits its horizon, a number of tokens that
/// fits 64 bits.
void check_together(const Node& root, const SweepSpec& spec, Problems& problems) {
  const auto number = [](const json& map, const char* key) {
    return map.is_object() && map.contains(key) && map.at(key).is_number_integer() ? map.at(key).get<std::int64_t>() : 0;
  };
  const Member* data = root.find("data");
  const std::int64_t batch = number(spec.data, "batch_tokens"), length = number(spec.data, "seq_len");
  const std::int64_t steps = number(spec.train, "steps");
  if (batch > 0 && length > 0 && batch % length != 0)
    problems.add(data ? place_of(data->value, "batch_tokens") : root.where,
                 fmt::format("data.batch_tokens: {} is no multiple of data.seq_len, {}", batch, length),
                 fmt::format("e.g. {}", (batch / length + 1) * length));
  std::int64_t tokens = 0;
  if (batch > 0 && steps > 0 && __builtin_mul_overflow(batch, steps, &tokens))
    problems.add(place_of(root.find("train")->value, "steps"),
                 fmt::format("train.steps: {} steps of {} tokens do not fit in 64 bits", steps, batch));
  if (steps > 0 && spec.schedule.is_object() && spec.schedule.size() > 0 && spec.schedule.contains("type") &&
      spec.schedule.contains("warmup")) {
    try {
      Schedule(spec.schedule, steps);
    } catch (const UsageError& e) {
      adopt(e, place_of(root, "schedule"), "", problems);
    }
  }
}

/// A model by its complete configuration.
ModelSpec describe_model(std::string name, json config) {
  ModelSpec model{.name = std::move(name), .config = std::move(config), .parameters = 0, .roles = {}};
  for (const Param& p : describe_params(model.config)) {
    model.parameters += p.tensor.numel();
    if (!model.has_role(p.role)) model.roles.push_back(p.role);
  }
  return model;
}

std::vector<ModelSpec> read_models(const Node& root, const std::vector<std::string>& names, Problems& problems) {
  const Member* overrides = root.find("model");
  std::vector<ModelSpec> models;
  for (const std::string& label : names) {
    const SourcePosition where = overrides ? overrides->where : place_of(root, "grid");
    json changes = json::object();
    try {
      if (overrides && overrides->value.kind == NodeKind::map) {
        const std::string architecture = resolve_model(label, json::object()).at("architecture");
        const auto& all = architectures();
        const auto it = std::find_if(all.begin(), all.end(), [&](const Architecture& a) { return a.name == architecture; });
        const Field as_map{.name = "model", .kind = FieldKind::map, .default_json = "null", .doc = "", .fields = it->fields};
        check_keys(overrides->value, it->fields, "model (" + architecture + ")", problems);
        for (const Member& m : overrides->value.members)
          if (const Field* f = find_field(it->fields, m.key))
            if (json value = read_value(m.value, *f, "model." + m.key, problems); !value.is_null())
              changes[m.key] = std::move(value);
      }
      models.push_back(describe_model(label, resolve_model(label, changes)));
    } catch (const UsageError& e) {
      adopt(e, where, label + ": ", problems);
    }
  }
  if (overrides && overrides->value.kind != NodeKind::map && overrides->value.kind != NodeKind::broken)
    problems.add(overrides->value.where, fmt::format("model: {} is not a map", describe(overrides->value)),
                 "a map of dimensions, e.g. {layers: 3}");
  return models;
}

/// "d 64, here 128; layers 2, here 4": what `here` has other than the model of init_from.
std::string differences(const json& folder, const json& here) {
  std::string text;
  json all = folder;
  all.update(here);
  for (const auto& [key, value] : all.items()) {
    const std::string theirs = folder.contains(key) ? folder[key].dump() : "none";
    const std::string ours = here.contains(key) ? here[key].dump() : "none";
    if (theirs != ours) text += fmt::format("{}{} {}, here {}", text.empty() ? "" : "; ", key, theirs, ours);
  }
  return text;
}

class SpecReader {
 public:
  SpecReader(const Node& root, Problems& problems) : root_(root), problems_(problems) {}

  SweepSpec read() {
    SweepSpec spec;
    check_keys(root_, sweep_fields(), "", problems_);
    const json version = member("version");
    if (version.is_number() && version != 1)
      problems_.add(root_.find("version")->value.where,
                    fmt::format("version: {} is not known to this program", version.dump()), "1");
    if (const json name = member("name"); name.is_string()) {
      spec.name = name;
      check_name(root_, spec.name, problems_);
    }
    if (const json notes = member("notes"); notes.is_string()) spec.notes = notes;
    spec.data = member("data");
    if (spec.data.is_object() && spec.data.contains("corpus")) check_corpus(root_, spec.data.at("corpus"), problems_);
    spec.train = member("train");
    spec.schedule = member("schedule");
    spec.log = member("log");
    spec.stop = member("stop");
    check_together(root_, spec, problems_);
    leave_out_what_is_off(spec);
    read_init_from(spec);
    const bool stacks_given = read_all_stacks();
    read_points(spec, stacks_given);
    read_settings(root_, spec, problems_);
    check_routers(spec);
    return spec;
  }

 private:
  json member(std::string_view name) { return read_member(root_, field(name), "", problems_); }

  /// What is switched off is the same job as what is not there.
  static void leave_out_what_is_off(SweepSpec& spec) {
    if (!spec.train.is_object()) return;
    for (const char* key : {"recompute", "deterministic"})
      if (spec.train.value(key, json()) == false) spec.train.erase(key);
    if (spec.train.value("kernels", json()) == "fused") spec.train.erase("kernels");
    if (spec.train.contains("router") && spec.train["router"].value("balance_loss", 1.0) == 0 &&
        spec.train["router"].value("z_loss", 1.0) == 0)
      spec.train.erase("router");
  }

  void read_init_from(SweepSpec& spec) {
    const json path = member("init_from");
    if (!path.is_string()) return;
    const SourcePosition where = root_.find("init_from")->value.where;
    try {
      initial_ = read_initial_weights(path.get<std::string>());
      spec.init_from = initial_->identity;
    } catch (const Error& e) {
      problems_.add(where, fmt::format("init_from: {}", e.what()));
    }
    refuse_seeds();
  }

  /// The seed draws the initial weights and nothing else, so two runs that differ in it would be one run counted twice.
  void refuse_seeds() {
    const auto refuse = [&](std::string_view name, const Node& map) {
      if (map.find("seed"))
        problems_.add(place_of(map, "seed"),
                      fmt::format("{}.seed: has no effect, because init_from gives the initial weights", name),
                      fmt::format("no {}.seed", name));
    };
    for (const std::string_view name : {"grid", "zip", "exclude", "include"})
      if (const Member* m = root_.find(name)) {
        refuse(name, m->value);
        for (const Node& item : m->value.items) refuse(name, item);
      }
  }

  std::vector<ModelSpec> read_all_models(const Grid& grid) {
    const std::vector<std::string> names = axis_values(grid).models;
    if (!root_.find("init_from")) return read_models(root_, names, problems_);
    const Member* overrides = root_.find("model");
    if (overrides && !grid.models_named)
      problems_.add(overrides->where, "model: has no effect, because init_from says what the model is", "no key 'model'");
    if (!initial_) return {};
    if (names == std::vector{initial_->name} && !grid.models_named) return {describe_model(initial_->name, initial_->model)};
    const Member* lists = root_.find("grid");
    std::vector<ModelSpec> models = read_models(root_, names, problems_);
    for (ModelSpec& model : models) {
      if (!same_model(model.config, initial_->model))
        problems_.add(lists ? place_of(lists->value, "model") : root_.where,
                      fmt::format("grid.model: {} is not the model of init_from: {}", model.name,
                                  differences(initial_->model, model.config)),
                      "no grid.model: init_from says what the model is");
      model.config = initial_->model;
    }
    return models;
  }

  /// What only routers can use must be used by one of the models.
  void check_routers(const SweepSpec& spec) {
    const auto has_router = [](const ModelSpec& m) { return m.has_role(Role::router); };
    if (spec.models.empty() || std::any_of(spec.models.begin(), spec.models.end(), has_router)) return;
    const auto refuse = [&](const char* map, std::string_view key) {
      const Member* outer = root_.find(map);
      if (!outer || !outer->value.find(key)) return;
      problems_.add(place_of(outer->value, key), fmt::format("{}.{}: no model of the sweep has a router", map, key),
                    "only beside models with experts, e.g. olmoe-nano");
    };
    refuse("train", "router");
    for (const DiagnosticInfo& d : diagnostics())
      if (d.of_routers) refuse("log", d.name);
  }

  bool read_all_stacks() {
    const Member* stacks = root_.find("stacks");
    if (!stacks) {
      problems_.add(root_.where, "key 'stacks' is missing", "a map of stacks by name");
      return false;
    }
    if (stacks->value.kind == NodeKind::broken) return false;
    if (stacks->value.kind != NodeKind::map || stacks->value.members.empty()) {
      problems_.add(stacks->value.where, fmt::format("stacks: {} is not a map of stacks", describe(stacks->value)),
                    "e.g. {adamw: {default: {rule: adamw, lr: 3e-3}}}");
      return false;
    }
    if (stacks->value.members.size() > kMaxStacks) {
      problems_.add(stacks->where, fmt::format("stacks: {} of them", stacks->value.members.size()),
                    fmt::format("at most {}", kMaxStacks));
      return false;
    }
    stacks_ = read_stacks(stacks->value, problems_);
    return true;
  }

  void read_points(SweepSpec& spec, bool stacks_given) {
    const bool elsewhere = root_.find("init_from") != nullptr;
    spec.grid =
        read_grid(root_, stacks_, elsewhere ? std::optional(initial_ ? initial_->name : "") : std::nullopt, problems_);
    spec.models = read_all_models(spec.grid);
    if (stacks_given) choose_stacks(spec);
  }

  void choose_stacks(SweepSpec& spec) {
    const std::vector<std::string> running = axis_values(spec.grid).stacks;
    for (const std::string& name : running)
      for (const StackSpec& stack : stacks_)
        if (stack.name == name) spec.stacks.push_back(stack);
    const auto baselines =
        std::count_if(spec.stacks.begin(), spec.stacks.end(), [](const StackSpec& s) { return s.baseline; });
    if (spec.stacks.size() > 1 && baselines != 1) {
      const Member* grid = root_.find("grid");
      const bool named = grid && grid->value.find("stack");
      problems_.add(named ? grid->value.find("stack")->where : place_of(root_, "stacks"),
                    fmt::format("{} of the {} stacks that run are marked baseline",
                                baselines == 0 ? "none" : fmt::to_string(baselines), spec.stacks.size()),
                    "baseline: true in exactly one of them, with which the report compares the others");
    }
    check_stacks(stacks_, running, spec.models, problems_);
  }

  const Node& root_;
  Problems& problems_;
  std::vector<StackSpec> stacks_;
  std::optional<InitialWeights> initial_;
};

}  // namespace

void drop_router_keys(json& config) {
  config.at("train").erase("router");
  for (const DiagnosticInfo& d : diagnostics())
    if (d.of_routers) config.at("log").erase(std::string(d.name));
}

SweepSpec read_sweep(std::string_view text, const std::string& file, std::span<const std::string> sets) {
  Problems problems;
  Node root = read_yaml(text, file, problems);
  if (root.kind == NodeKind::broken) problems.throw_if_any();
  for (const std::string& set : sets) {
    const std::size_t equals = set.find('=');
    if (equals == std::string::npos || equals == 0) {
      problems.add({"--set " + printable(set, 80), 0, 0}, "no path=value", "e.g. --set train.steps=100");
    } else {
      set_value(root, std::string_view(set).substr(0, equals), std::string_view(set).substr(equals + 1), problems);
    }
  }
  if (root.kind != NodeKind::map)
    problems.add(root.where, fmt::format("{} is not a sweep", describe(root)), "a map of keys");
  SweepSpec spec;
  if (root.kind == NodeKind::map) spec = SpecReader(root, problems).read();
  problems.throw_if_any();
  spec.file = file;
  spec.text = std::string(text);
  try {
    count_jobs(spec);
  } catch (const UsageError& e) {
    adopt(e, place_of(root, "grid"), "", problems);
  }
  problems.throw_if_any();
  return spec;
}

SweepSpec read_sweep_file(const std::filesystem::path& file, std::span<const std::string> sets) {
  return read_sweep(read_text(file), file.string(), sets);
}

}  // namespace equisweep
