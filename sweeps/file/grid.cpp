#include "sweeps/file/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "sweeps/file/grammar.h"

namespace equisweep {

using nlohmann::json;

namespace {

const std::vector<std::string> kAxes = {"model", "stack", "lr_scale", "seed"};
constexpr std::size_t kMaxRows = 100'000, kMaxSelections = 1000;

const Field& axis_field(std::string_view axis) { return *find_field(find_field(sweep_fields(), "grid")->fields, axis); }

/// Every value that `path` ("embedding.lr") takes as an axis of one of `stacks`.
std::vector<json> values_of_axis(const std::vector<StackSpec>& stacks, std::string_view path) {
  std::vector<json> values;
  for (const StackSpec& stack : stacks)
    for (const StackEntry& entry : stack.entries)
      for (const StackOption& option : entry.options)
        if (option.values.size() > 1 && fmt::format("{}.{}", entry.name, option.path) == path)
          for (const OptionValue& value : option.values) values.push_back(value.as_written());
  return values;
}

/// The paths of the axes of `stacks`.
std::vector<std::string> axis_names(const std::vector<StackSpec>& stacks) {
  std::vector<std::string> names;
  for (const StackSpec& stack : stacks)
    for (const StackEntry& entry : stack.entries)
      for (const StackOption& option : entry.options)
        if (option.values.size() > 1) names.push_back(fmt::format("{}.{}", entry.name, option.path));
  return names;
}

class GridReader {
 public:
  GridReader(const Node& root, const std::vector<StackSpec>& stacks, const std::optional<std::string>& model,
             Problems& problems)
      : root_(root), stacks_(stacks), model_(model), problems_(problems) {
    for (const StackSpec& s : stacks) stack_names_.push_back(s.name);
  }

  Grid read() {
    Grid grid{.where = root_.where};
    if (!model_ && !root_.find("grid") && !root_.find("zip")) {
      problems_.add(root_.where, "key 'grid' is missing", allowed_values(*find_field(sweep_fields(), "grid")));
      return grid;
    }
    const Member* lists = map_at("grid");
    const Member* zipped = map_at("zip");
    if (lists) grid.where = lists->where;
    if (zipped) read_zip(*zipped, lists, grid);
    for (const std::string& axis : kAxes)
      if (!zipped || !zipped->value.find(axis)) read_list(axis, lists, grid);
    read_selections("exclude", grid, grid.exclude);
    read_selections("include", grid, grid.include);
    const auto named = [](const Selection& s) { return s.model.has_value(); };
    grid.models_named = (lists && lists->value.find("model")) || std::any_of(grid.zip.begin(), grid.zip.end(), named) ||
                        std::any_of(grid.include.begin(), grid.include.end(), named);
    return grid;
  }

 private:
  /// The map at a key of the file; nullptr where there is none to read.
  const Member* map_at(std::string_view key) {
    const Field& field = *find_field(sweep_fields(), key);
    const Member* member = root_.find(key);
    if (!member || member->value.kind == NodeKind::broken) return nullptr;
    if (member->value.kind == NodeKind::map) {
      check_keys(member->value, field.fields, std::string(key), problems_);
      return member;
    }
    problems_.add(member->value.where, fmt::format("{}: {} is not a map", key, describe(member->value)),
                  "a map of lists with the keys: " + join(names_of(field.fields)));
    return nullptr;
  }

  void read_list(std::string_view axis, const Member* lists, Grid& grid) {
    const Field& field = axis_field(axis);
    std::vector<json> values;
    const Member* given = lists ? lists->value.find(axis) : nullptr;
    if (given) {
      values = read_values(given->value, field, join_path("grid", axis), problems_);
    } else if (axis == "model" && model_) {
      if (!model_->empty()) grid.models.push_back(*model_);
      return;
    } else if (field.default_json.empty()) {
      const bool unreadable = root_.find("grid") && !lists;
      if (!unreadable)
        problems_.add(lists ? lists->value.where : root_.where, fmt::format("key 'grid.{}' is missing", axis),
                      allowed_values(field));
    } else if (axis == "stack") {
      for (const std::string& name : stack_names_) values.push_back(name);
    } else {
      values.push_back(json::parse(field.default_json));
    }
    for (const json& value : values) {
      if (axis == "model") grid.models.push_back(value.get<std::string>());
      if (axis == "stack" && is_stack(value, given ? given->where : grid.where, "grid.stack"))
        grid.stacks.push_back(value.get<std::string>());
      if (axis == "lr_scale") grid.lr_scales.push_back(value.get<double>());
      if (axis == "seed") grid.seeds.push_back(value.get<std::int64_t>());
    }
  }

  bool is_stack(const json& name, const SourcePosition& where, const std::string& path) {
    const auto text = name.get<std::string>();
    if (stack_names_.empty()) return true;  // `stacks` could not be read: a problem of its own
    if (std::find(stack_names_.begin(), stack_names_.end(), text) != stack_names_.end()) return true;
    problems_.add(where, fmt::format("{}: '{}' is no stack of this file", path, printable(text, 60)),
                  "one of: " + join(stack_names_), nearest_name(text, stack_names_));
    return false;
  }

  void read_zip(const Member& zipped, const Member* lists, Grid& grid) {
    const Node& map = zipped.value;
    if (map.members.empty())
      problems_.add(map.where, "zip: an empty map", "lists of the same length for some of: " + join(kAxes));
    std::optional<std::size_t> length;
    for (const Member& m : map.members) {
      if (std::find(kAxes.begin(), kAxes.end(), m.key) == kAxes.end() || m.value.kind == NodeKind::broken) continue;
      const std::string path = join_path("zip", m.key);
      if (lists && lists->value.find(m.key))
        problems_.add(m.where, fmt::format("{}: grid.{} is given as well", path, m.key), "each axis once");
      if (m.value.kind != NodeKind::sequence || m.value.items.empty() || m.value.items.size() > kMaxRows) {
        problems_.add(m.value.where, fmt::format("{}: {} is not a list of values", path, describe(m.value)),
                      "a list as long as the others of zip");
        continue;
      }
      if (!length) grid.zip.resize(*(length = m.value.items.size()));
      if (*length != m.value.items.size()) {
        problems_.add(m.value.where,
                      fmt::format("{}: {} values, but another list of zip has {}", path, m.value.items.size(), *length),
                      "lists of the same length");
        continue;
      }
      for (std::size_t i = 0; i < *length; ++i) {
        grid.zip[i].where = m.value.items[i].where;
        read_axis(m.key, m.value.items[i], path, grid.zip[i]);
      }
    }
    std::set<std::string> seen;
    for (const Selection& row : grid.zip)
      if (!seen.insert(in_words(row)).second)
        problems_.add(row.where, fmt::format("zip: the row {} stands in it twice", in_words(row)), "each row once");
  }

  static std::string in_words(const Selection& s) {
    return fmt::format("{} {} {} {}", s.model.value_or("-"), s.stack.value_or("-"), s.lr_scale.value_or(0),
                       s.seed.value_or(-1));
  }

  /// One value of model, stack, lr_scale or seed.
  void read_axis(std::string_view axis, const Node& node, const std::string& path, Selection& out) {
    const json value = read_value(node, axis_field(axis), path, problems_);
    if (value.is_null()) return;
    if (axis == "model") out.model = value.get<std::string>();
    if (axis == "stack" && is_stack(value, node.where, path)) out.stack = value.get<std::string>();
    if (axis == "lr_scale") out.lr_scale = value.get<double>();
    if (axis == "seed") out.seed = value.get<std::int64_t>();
  }

  void read_selections(std::string_view key, const Grid& grid, std::vector<Selection>& out) {
    const Member* member = root_.find(key);
    if (!member || member->value.kind == NodeKind::broken) return;
    const std::string allowed =
        "a list of maps with some of: " + join(kAxes) + ", or an axis of a stack such as embedding.lr";
    if (member->value.kind != NodeKind::sequence || member->value.items.empty()) {
      problems_.add(member->value.where, fmt::format("{}: {} is not a list of maps", key, describe(member->value)), allowed);
      return;
    }
    if (member->value.items.size() > kMaxSelections) {
      problems_.add(member->value.where, fmt::format("{}: {} maps", key, member->value.items.size()),
                    fmt::format("at most {}", kMaxSelections));
      return;
    }
    for (const Node& item : member->value.items) {
      if (item.kind == NodeKind::broken) continue;
      if (item.kind != NodeKind::map || item.members.empty()) {
        problems_.add(item.where, fmt::format("{}: {} selects nothing", key, describe(item)), allowed);
        continue;
      }
      Selection& selection = out.emplace_back();
      selection.where = item.where;
      for (const Member& m : item.members) read_key(key, m, grid, selection);
    }
  }

  void read_key(std::string_view key, const Member& m, const Grid& grid, Selection& selection) {
    const std::string path = join_path(std::string(key), m.key);
    if (std::find(kAxes.begin(), kAxes.end(), m.key) != kAxes.end()) {
      read_axis(m.key, m.value, path, selection);
      if (key == "exclude" && m.key == "model" && selection.model) {
        const std::vector<std::string> models = axis_values(grid).models;
        if (std::find(models.begin(), models.end(), *selection.model) == models.end())
          problems_.add(m.value.where, fmt::format("{}: '{}' is no model of this sweep", path, *selection.model),
                        "one of: " + join(models), nearest_name(*selection.model, models));
      }
      return;
    }
    const std::vector<json> values = values_of_axis(stacks_, m.key);
    if (values.empty()) {
      std::vector<std::string> names = kAxes;
      for (std::string& name : axis_names(stacks_)) names.push_back(std::move(name));
      problems_.add(m.where, fmt::format("{}: '{}' is no axis of this sweep", key, printable(m.key, 60)), join(names),
                    nearest_name(m.key, names));
      return;
    }
    if (m.value.kind == NodeKind::broken) return;
    const json value =
        m.value.kind == NodeKind::map || m.value.kind == NodeKind::sequence ? json() : scalar_to_json(m.value);
    if (std::find(values.begin(), values.end(), value) == values.end()) {
      std::vector<std::string> all;
      for (const json& v : values) all.push_back(v.dump());
      problems_.add(m.value.where, fmt::format("{}: {} is no value of this axis", path, describe(m.value)),
                    "one of: " + join(all));
      return;
    }
    selection.axes[m.key] = value;
  }

  const Node& root_;
  const std::vector<StackSpec>& stacks_;
  const std::optional<std::string>& model_;
  Problems& problems_;
  std::vector<std::string> stack_names_;
};

/// `list`, then what rows of `zip` and of `include` name beside it, each once.
template <typename T>
std::vector<T> values_in(const Grid& grid, const std::vector<T>& list, std::optional<T> Selection::*own) {
  std::vector<T> all = list;
  std::set<T> seen(list.begin(), list.end());
  for (const auto* rows : {&grid.zip, &grid.include})
    for (const Selection& row : *rows)
      if (const auto& value = row.*own; value && seen.insert(*value).second) all.push_back(*value);
  return all;
}

[[noreturn]] void refuse_selection(std::string_view text, const std::string& what, const std::string& allowed,
                                   const std::string& nearest = "") {
  throw UsageError({Problem{{"--only " + printable(text, 80), 0, 0}, what, allowed, nearest}});
}

/// A value of a stack's own axis as --only writes it.
json scalar_of(std::string_view value) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error == std::errc{} && end == value.data() + value.size()) return number;
  if (value == "true" || value == "false") return value == "true";
  return std::string(value);
}

double number_of(std::string_view text, std::string_view value) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size())
    refuse_selection(text, fmt::format("'{}' is not a number", printable(value, 60)), "e.g. lr_scale=0.5");
  return number;
}

}  // namespace

Grid read_grid(const Node& root, const std::vector<StackSpec>& stacks, const std::optional<std::string>& model,
               Problems& problems) {
  return GridReader(root, stacks, model, problems).read();
}

AxisValues axis_values(const Grid& grid) {
  return {.models = values_in(grid, grid.models, &Selection::model),
          .stacks = values_in(grid, grid.stacks, &Selection::stack),
          .lr_scales = values_in(grid, grid.lr_scales, &Selection::lr_scale),
          .seeds = values_in(grid, grid.seeds, &Selection::seed)};
}

Selection read_selection(std::string_view text, const SweepSpec& spec) {
  Selection selection{.where = {"--only " + printable(text, 80), 0, 0}};
  std::set<std::string> keys;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = part.find('=');
    const std::string key(part.substr(0, equals));
    const std::string_view value = equals == part.npos ? "" : part.substr(equals + 1);
    if (value.empty()) refuse_selection(text, "no key=value", "e.g. model=qwen3-nano,stack=muon,seed=0");
    if (!keys.insert(key).second)
      refuse_selection(text, fmt::format("'{}' stands in it twice, and no job has two", printable(key, 60)),
                       "each key once; several --only add up");
    if (key == "model" || key == "stack") {
      const AxisValues all = axis_values(spec.grid);
      const std::vector<std::string>& names = key == "model" ? all.models : all.stacks;
      if (std::find(names.begin(), names.end(), value) == names.end())
        refuse_selection(text, fmt::format("'{}' is no {} of this sweep", printable(value, 60), key),
                         "one of: " + join(names), nearest_name(std::string(value), names));
      (key == "model" ? selection.model : selection.stack) = std::string(value);
    } else if (key == "lr_scale") {
      selection.lr_scale = number_of(text, value);
    } else if (key == "seed") {
      const double seed = number_of(text, value);
      if (!(seed >= 0 && seed <= kMaxSeed) || seed != std::floor(seed))
        refuse_selection(text, "that is no seed", "e.g. seed=0");
      selection.seed = static_cast<std::int64_t>(seed);
    } else if (key == "phase" && spec.tune) {
      static const std::vector<std::string> phases = {"tune", "confirm"};
      if (std::find(phases.begin(), phases.end(), value) == phases.end())
        refuse_selection(text, fmt::format("'{}' is no phase", printable(value, 60)), "one of: " + join(phases),
                         nearest_name(value, phases));
      selection.phase = std::string(value);
    } else if (const std::vector<std::string> axes = axis_names(spec.stacks);
               std::find(axes.begin(), axes.end(), key) != axes.end()) {
      selection.axes[key] = scalar_of(value);
    } else {
      std::vector<std::string> names = kAxes;
      if (spec.tune) names.push_back("phase");
      names.insert(names.end(), axes.begin(), axes.end());
      refuse_selection(text, fmt::format("unknown key '{}'", printable(key, 60)), join(names), nearest_name(key, names));
    }
  }
  return selection;
}

bool matches(const Selection& s, std::string_view model, std::string_view stack, double lr_scale, std::int64_t seed,
             const json& axes) {
  if ((s.model && *s.model != model) || (s.stack && *s.stack != stack) || (s.lr_scale && *s.lr_scale != lr_scale) ||
      (s.seed && *s.seed != seed))
    return false;
  return std::all_of(s.axes.items().begin(), s.axes.items().end(), [&](const auto& item) {
    const auto it = axes.find(item.key());
    return it != axes.end() && *it == item.value();
  });
}

}  // namespace equisweep
