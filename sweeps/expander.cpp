#include "sweeps/expander.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "sweeps/file/stacks.h"
#include "sweeps/tune.h"

namespace equisweep {

using nlohmann::json;

namespace {

template <typename T>
std::vector<std::size_t> numbers_of(const std::vector<T>& some, const std::vector<T>& all) {
  std::map<T, std::size_t> number;
  for (std::size_t i = 0; i < all.size(); ++i) number.emplace(all[i], i);
  std::vector<std::size_t> result;
  for (const T& value : some) result.push_back(number.at(value));
  return result;
}

std::vector<std::size_t> all_of_them(std::size_t n) {
  std::vector<std::size_t> result(n);
  std::iota(result.begin(), result.end(), std::size_t{0});
  return result;
}

/// The values of a row of `zip` or `include`: its own where it has one, else those of `range`.
template <typename T>
std::vector<std::size_t> own_or(const std::optional<T>& own, const std::vector<T>& all,
                                const std::vector<std::size_t>& range) {
  return own ? numbers_of(std::vector<T>{*own}, all) : range;
}

}  // namespace

struct Expander::Range {
  std::vector<std::size_t> models, stacks, lr_scales, seeds;
};

std::vector<Expander::Point> Expander::points() {
  const Grid& grid = spec_.grid;
  Problems problems;
  points_.clear();
  const Range lists{.models = numbers_of(grid.models, values_.models),
                    .stacks = numbers_of(grid.stacks, values_.stacks),
                    .lr_scales = numbers_of(grid.lr_scales, values_.lr_scales),
                    .seeds = numbers_of(grid.seeds, values_.seeds)};
  const Range everything{.models = all_of_them(values_.models.size()),
                         .stacks = all_of_them(values_.stacks.size()),
                         .lr_scales = all_of_them(values_.lr_scales.size()),
                         .seeds = all_of_them(values_.seeds.size())};
  if (grid.zip.empty()) add_points({}, lists);
  for (const Selection& row : grid.zip) add_points(row, lists);
  for (const Selection& selection : grid.exclude) {
    const std::size_t before = points_.size();
    std::erase_if(points_, [&](const Point& p) { return selects(selection, p); });
    if (points_.size() == before) problems.add(selection.where, "exclude: no point of the sweep is like this");
  }
  sort_points(0);
  for (const Selection& selection : grid.include) {
    const std::size_t before = points_.size();
    add_points(selection, everything);
    sort_points(before);
    if (points_.size() == before) problems.add(selection.where, "include: the sweep has these points already");
  }
  if (points_.empty()) problems.add(grid.where, "every point of the grid is excluded", "one point or more");
  problems.throw_if_any();
  return std::move(points_);
}

const std::vector<Expander::Variant>& Expander::variants(std::size_t model, std::size_t stack) {
  const auto [it, fresh] = variants_.try_emplace({model, stack});
  if (!fresh) return it->second;
  const ModelSpec& m = model_spec(model);
  std::vector<Variant> all(1);
  for (const StackEntry* entry : used_entries(stack_spec(stack), m.roles)) {
    const std::vector<EntryVariant> choices = expand_entry(stack_spec(stack), *entry, m.config.at("architecture"));
    std::vector<Variant> next;
    next.reserve(all.size() * choices.size());
    for (const Variant& variant : all)
      for (const EntryVariant& choice : choices) {
        next.push_back(variant);
        next.back().stack[entry->name] = choice.entry;
        next.back().axes.update(choice.axes);
      }
    all = std::move(next);
  }
  return it->second = std::move(all);
}

const ModelSpec& Expander::model_spec(std::size_t i) const {
  return *std::find_if(spec_.models.begin(), spec_.models.end(), [&](const auto& m) { return m.name == values_.models[i]; });
}

const StackSpec& Expander::stack_spec(std::size_t i) const {
  return *std::find_if(spec_.stacks.begin(), spec_.stacks.end(), [&](const auto& s) { return s.name == values_.stacks[i]; });
}

void Expander::add_points(const Selection& own, const Range& range) {
  const Selection of_axes{.axes = own.axes};
  const std::vector<std::size_t> scales = own_or(own.lr_scale, values_.lr_scales, range.lr_scales);
  for (const std::size_t seed : own_or(own.seed, values_.seeds, range.seeds))
    for (const std::size_t m : own_or(own.model, values_.models, range.models))
      for (const std::size_t s : own_or(own.stack, values_.stacks, range.stacks)) {
        const std::vector<Variant>& all = variants(m, s);
        for (std::size_t v = 0; v < all.size(); ++v) {
          if (!own.axes.empty() && !matches(of_axes, "", "", 0, 0, all[v].axes)) continue;
          for (const std::size_t scale : scales) points_.push_back({seed, m, s, v, scale});
        }
      }
}

bool Expander::selects(const Selection& selection, const Point& p) {
  return matches(selection, values_.models[p[1]], values_.stacks[p[2]], values_.lr_scales[p[4]], values_.seeds[p[0]],
                 axes(p));
}

void Expander::sort_points(std::size_t sorted) {
  const auto middle = points_.begin() + static_cast<std::ptrdiff_t>(sorted);
  std::sort(middle, points_.end());
  std::inplace_merge(points_.begin(), middle, points_.end());
  points_.erase(std::unique(points_.begin(), points_.end()), points_.end());
}

Expander::Cell Expander::cell(const Point& p, double lr_scale, const json& axes) {
  const ModelSpec& model = model_spec(p[1]);
  const StackSpec& stack = stack_spec(p[2]);
  Cell cell;
  Job& job = cell.job;
  job.model = model.name;
  job.stack = stack.name;
  job.baseline = stack.baseline;
  job.lr_scale = lr_scale;
  job.axes = axes;
  json entries = variants(p[1], p[2])[p[3]].stack;
  for (const auto& [path, value] : axes.items())
    if (is_rate(path)) entries.at(path.substr(0, path.find('.'))).at("lr") = value;
  scale_rates(stack, entries, lr_scale);
  job.config = {{"data", spec_.data},         {"log", spec_.log},   {"model", model.config},
                {"schedule", spec_.schedule}, {"stop", spec_.stop}, {"train", spec_.train}};
  if (!spec_.init_from.is_null()) job.config["init_from"] = spec_.init_from;
  if (!model.has_role(Role::router)) drop_router_keys(job.config);
  std::map<std::string, std::string>& texts = texts_[p[1]];
  if (texts.empty())
    for (const auto& [key, value] : job.config.items()) texts[key] = canonical(value);
  job.config["stack"] = std::move(entries);
  for (const auto& [key, value] : job.config.items()) {
    std::string& text = key < "seed" ? cell.before : cell.after;
    text += fmt::format("{}\"{}\":{}", key < "seed" ? "" : ",", key, key == "stack" ? canonical(value) : texts.at(key));
    if (key < "seed") text += ',';
  }
  cell.before = "{" + cell.before + "\"seed\":";
  cell.after += "}";
  return cell;
}

std::string Expander::Cell::id(std::int64_t seed) const { return hash_of(fmt::format("{}{}{}", before, seed, after)); }

Job Expander::Cell::with_seed(std::int64_t seed) const {
  Job result = job;
  result.seed = seed;
  result.config["seed"] = seed;
  result.id = id(seed);
  return result;
}

}  // namespace equisweep
