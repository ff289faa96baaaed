#include "sweeps/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <unordered_set>

#include "core/error.h"
#include "sweeps/file/grid.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

std::int64_t length(const auto& list) { return static_cast<std::int64_t>(list.size()); }

template <typename T>
void add_once(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

template <typename T>
std::size_t index_in(const std::vector<T>& list, const T& value) {
  return static_cast<std::size_t>(std::find(list.begin(), list.end(), value) - list.begin());
}

/// Every value of each axis, in the order of first appearance: the lists, `zip`, then `include`.
struct Axes {
  std::vector<std::string> models, stacks;
  std::vector<double> lr_scales;
  std::vector<std::int64_t> seeds;

  explicit Axes(const SweepSpec& spec)
      : models(names_in(spec.grid, "model")),
        stacks(names_in(spec.grid, "stack")),
        lr_scales(spec.grid.lr_scales),
        seeds(spec.grid.seeds) {
    for (const auto* rows : {&spec.grid.zip, &spec.grid.include})
      for (const Selection& row : *rows) {
        if (row.lr_scale) add_once(lr_scales, *row.lr_scale);
        if (row.seed) add_once(seeds, *row.seed);
      }
  }
};

/// The values of one row of `zip` or `include`: its own where it has one, else those of `all`.
template <typename T>
std::vector<T> chosen(const std::optional<T>& own, const std::vector<T>& all) {
  return own ? std::vector<T>{*own} : all;
}

/// Number of settings of `stack` for a model, or nothing if that does not fit.
std::optional<std::int64_t> count_settings(const StackSpec& stack, const ModelSpec& model) {
  std::int64_t count = 1;
  for (const StackEntry* entry : used_entries(stack, model.roles))
    for (const StackOption& option : entry->options)
      if (__builtin_mul_overflow(count, length(option.values), &count)) return std::nullopt;
  return count;
}

/// "muon.matrix.lr 3 x muon.matrix.beta 2"
std::string describe_axes(const StackSpec& stack) {
  std::string text;
  for (const StackEntry& entry : stack.entries)
    for (const StackOption& option : entry.options)
      if (option.values.size() > 1)
        text += fmt::format("{}{}.{}.{} {}", text.empty() ? "" : " x ", stack.name, entry.name, option.path,
                            option.values.size());
  return text;
}

/// lr * scale with 15 significant digits: 0.1 * 3 is the 0.3 that somebody else writes, so the same config has the same id.
double scaled(double lr, double scale) {
  if (scale == 1) return lr;
  const std::string text = fmt::format("{:.15g}", lr * scale);
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

struct StackVariant {
  json stack = json::object();  ///< complete entries by name, lr unscaled; only those that the model has weights for
  json axes = json::object();
};

std::vector<StackVariant> expand_stack(const StackSpec& spec, const ModelSpec& model) {
  std::vector<StackVariant> variants(1);
  for (const StackEntry* entry : used_entries(spec, model.roles)) {
    const std::vector<EntryVariant> choices = expand_entry(spec, *entry, model.config.at("architecture"));
    std::vector<StackVariant> next;
    next.reserve(variants.size() * choices.size());
    for (const StackVariant& variant : variants)
      for (const EntryVariant& choice : choices) {
        next.push_back(variant);
        next.back().stack[entry->name] = choice.entry;
        next.back().axes.update(choice.axes);
      }
    variants = std::move(next);
  }
  return variants;
}

json scale_stack(const StackSpec& spec, const json& stack, double scale) {
  json result = stack;
  for (auto& [name, entry] : result.items()) {
    const double lr = scaled(entry.at("lr").get<double>(), scale);
    if (!std::isfinite(lr) || (lr == 0) != (entry.at("lr").get<double>() == 0))
      throw UsageError({Problem{spec.where,
                                fmt::format("stacks.{}.{}: lr {} times lr_scale {} is out of range", spec.name, name,
                                            entry.at("lr").get<double>(), scale),
                                "a positive, finite learning rate", ""}});
    entry["lr"] = lr;
  }
  return result;
}

/// The points of a sweep as numbers of values, in the order in which jobs come.
class Expander {
 public:
  explicit Expander(const SweepSpec& spec) : spec_(spec), axes_(spec) {}

  std::vector<Job> run() {
    const Grid& grid = spec_.grid;
    if (grid.zip.empty()) add_points({}, grid.models, grid.stacks, grid.lr_scales, grid.seeds);
    for (const Selection& row : grid.zip) add_points(row, grid.models, grid.stacks, grid.lr_scales, grid.seeds);
    for (const Selection& selection : grid.exclude) {
      const std::size_t before = points_.size();
      std::erase_if(points_, [&](const Point& p) { return selects(selection, p); });
      if (points_.size() == before) problems_.add(selection.where, "exclude: no point of the sweep is like this", "", "");
    }
    for (const Selection& selection : grid.include) {
      const std::size_t before = points_.size();
      add_points(selection, axes_.models, axes_.stacks, axes_.lr_scales, axes_.seeds);
      sort_points();
      if (points_.size() == before) problems_.add(selection.where, "include: the sweep has these points already", "", "");
    }
    sort_points();
    if (points_.empty()) problems_.add(grid.where, "every point of the grid is excluded", "one point or more");
    problems_.throw_if_any();
    return jobs();
  }

 private:
  /// seed, model, stack, variant of the stack, lr_scale
  using Point = std::array<std::size_t, 5>;

  const std::vector<StackVariant>& variants(std::size_t model, std::size_t stack) {
    const auto [it, fresh] = variants_.try_emplace({model, stack});
    if (fresh) it->second = expand_stack(stack_spec(stack), model_spec(model));
    return it->second;
  }

  const ModelSpec& model_spec(std::size_t i) const {
    return *std::find_if(spec_.models.begin(), spec_.models.end(), [&](const auto& m) { return m.name == axes_.models[i]; });
  }
  const StackSpec& stack_spec(std::size_t i) const {
    return *std::find_if(spec_.stacks.begin(), spec_.stacks.end(), [&](const auto& s) { return s.name == axes_.stacks[i]; });
  }

  void add_points(const Selection& own, const std::vector<std::string>& models, const std::vector<std::string>& stacks,
                  const std::vector<double>& lr_scales, const std::vector<std::int64_t>& seeds) {
    for (const std::int64_t seed : chosen(own.seed, seeds))
      for (const std::string& model : chosen(own.model, models))
        for (const std::string& stack : chosen(own.stack, stacks)) {
          const std::size_t m = index_in(axes_.models, model), s = index_in(axes_.stacks, stack);
          for (std::size_t v = 0; v < variants(m, s).size(); ++v) {
            if (!matches({.axes = own.axes}, model, stack, 0, 0, variants(m, s)[v].axes)) continue;
            for (const double scale : chosen(own.lr_scale, lr_scales))
              points_.push_back({index_in(axes_.seeds, seed), m, s, v, index_in(axes_.lr_scales, scale)});
          }
        }
  }

  bool selects(const Selection& selection, const Point& p) {
    return matches(selection, axes_.models[p[1]], axes_.stacks[p[2]], axes_.lr_scales[p[4]], axes_.seeds[p[0]],
                   variants(p[1], p[2])[p[3]].axes);
  }

  void sort_points() {
    std::sort(points_.begin(), points_.end());
    points_.erase(std::unique(points_.begin(), points_.end()), points_.end());
  }

  std::vector<Job> jobs() {
    std::map<std::array<std::size_t, 4>, Job> cells;  // a point without its seed; seeds differ in little
    std::vector<Job> jobs;
    jobs.reserve(points_.size());
    for (const Point& p : points_) {
      const auto [it, fresh] = cells.try_emplace({p[1], p[2], p[3], p[4]});
      if (fresh) it->second = cell(p);
      Job& job = jobs.emplace_back(it->second);
      job.seed = axes_.seeds[p[0]];
      job.config["seed"] = job.seed;
      job.id = job_id(job.config);
    }
    return jobs;
  }

  Job cell(const Point& p) {
    const ModelSpec& model = model_spec(p[1]);
    const StackSpec& stack = stack_spec(p[2]);
    const StackVariant& variant = variants(p[1], p[2])[p[3]];
    Job cell;
    cell.model = model.name;
    cell.stack = stack.name;
    cell.baseline = stack.baseline;
    cell.lr_scale = axes_.lr_scales[p[4]];
    cell.axes = variant.axes;
    cell.config = {{"data", spec_.data},
                   {"log", spec_.log},
                   {"model", model.config},
                   {"schedule", spec_.schedule},
                   {"stack", scale_stack(stack, variant.stack, cell.lr_scale)},
                   {"stop", spec_.stop},
                   {"train", spec_.train}};
    if (!spec_.init_from.is_null()) cell.config["init_from"] = spec_.init_from;
    if (!model.has_role(Role::router)) drop_router_keys(cell.config);
    return cell;
  }

  const SweepSpec& spec_;
  const Axes axes_;
  std::map<std::pair<std::size_t, std::size_t>, std::vector<StackVariant>> variants_;
  std::vector<Point> points_;
  Problems problems_;
};

}  // namespace

std::int64_t count_jobs(const SweepSpec& spec) {
  const Grid& grid = spec.grid;
  const Axes all(spec);
  std::map<std::pair<std::string, std::string>, std::optional<std::int64_t>> settings;
  for (const ModelSpec& model : spec.models)
    for (const StackSpec& stack : spec.stacks) settings[{model.name, stack.name}] = count_settings(stack, model);
  std::int64_t jobs = 0;
  bool fits = true;
  const auto add = [&](const Selection& own, const auto& models, const auto& stacks, std::int64_t scales,
                       std::int64_t seeds) {
    std::int64_t cells = 0;
    for (const std::string& model : chosen(own.model, models))
      for (const std::string& stack : chosen(own.stack, stacks)) {
        const std::optional<std::int64_t> n = settings.at({model, stack});
        fits = fits && n && !__builtin_add_overflow(cells, *n, &cells);
      }
    fits = fits && !__builtin_mul_overflow(cells, own.lr_scale ? 1 : scales, &cells) &&
           !__builtin_mul_overflow(cells, own.seed ? 1 : seeds, &cells) && !__builtin_add_overflow(jobs, cells, &jobs);
  };
  const std::int64_t scales = length(grid.lr_scales), seeds = length(grid.seeds);
  if (grid.zip.empty()) add({}, grid.models, grid.stacks, scales, seeds);
  for (const Selection& row : grid.zip) add(row, grid.models, grid.stacks, scales, seeds);
  for (const Selection& row : grid.include) add(row, all.models, all.stacks, length(all.lr_scales), length(all.seeds));
  if (fits && jobs <= kMaxJobs) return jobs;
  std::string axes;
  for (const StackSpec& stack : spec.stacks)
    if (const std::string own = describe_axes(stack); !own.empty()) axes += (axes.empty() ? "" : "; ") + own;
  throw UsageError({Problem{
      {spec.file, 0, 0},
      fmt::format("{} jobs: model {} x stack {} x lr_scale {} x seed {}{}{}", fits ? fmt::to_string(jobs) : "more than 9e18",
                  all.models.size(), all.stacks.size(), all.lr_scales.size(), all.seeds.size(),
                  grid.zip.empty() ? "" : fmt::format(", {} rows of zip", grid.zip.size()),
                  axes.empty() ? "" : ", with the axes " + axes),
      fmt::format("at most {}", kMaxJobs),
      ""}});
}

std::vector<Job> expand(const SweepSpec& spec) {
  count_jobs(spec);
  return Expander(spec).run();
}

std::vector<Job> select(const SweepSpec& spec, const std::vector<Job>& jobs, const std::vector<std::string>& only) {
  if (only.empty()) return jobs;
  std::vector<Selection> selections;
  for (const std::string& text : only) selections.push_back(read_selection(text, spec));
  std::vector<Job> chosen;
  for (const Job& job : jobs)
    if (std::any_of(selections.begin(), selections.end(),
                    [&](const Selection& s) { return matches(s, job.model, job.stack, job.lr_scale, job.seed, job.axes); }))
      chosen.push_back(job);
  if (chosen.empty())
    throw Error("no job of this sweep is selected by --only " + join(only, " --only "), ExitCode::nothing_matches);
  return chosen;
}

PlanSummary summarize(const SweepSpec& spec, const std::vector<Job>& jobs) {
  PlanSummary summary;
  summary.jobs = length(jobs);
  std::unordered_set<std::string> ids;
  for (const Job& job : jobs) ids.insert(job.id);
  summary.unique = length(ids);
  for (const ModelSpec& model : spec.models) {
    const auto mine = std::count_if(jobs.begin(), jobs.end(), [&](const Job& job) { return job.model == model.name; });
    summary.models.push_back({model.name, model.parameters, static_cast<std::int64_t>(mine)});
  }
  summary.tokens_per_run = spec.train.at("steps").get<std::int64_t>() * spec.data.at("batch_tokens").get<std::int64_t>();
  summary.tokens = static_cast<double>(summary.tokens_per_run) * static_cast<double>(summary.unique);
  return summary;
}

}  // namespace equisweep
