#include "sweeps/plan.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <unordered_set>

#include "core/error.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

/// a * b, or nothing if that does not fit.
bool multiply(std::int64_t& a, std::int64_t b) { return !__builtin_mul_overflow(a, b, &a); }

std::int64_t length(const auto& list) { return static_cast<std::int64_t>(list.size()); }

/// "embedding.lr 2 x matrix.lr 3"; the number of variants goes to `count`, or overflow is reported by false.
bool describe_axes(const StackSpec& stack, std::int64_t& count, std::string& text) {
  bool fits = true;
  for (const StackEntry& entry : stack.entries)
    for (const StackOption& option : entry.options) {
      fits = fits && multiply(count, length(option.values));
      if (option.values.size() > 1)
        text += fmt::format("{}{}.{}.{} {}", text.empty() ? "" : " x ", stack.name, entry.name, option.path,
                            option.values.size());
    }
  return fits;
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
  json stack;  ///< complete entries by name, lr unscaled
  json axes = json::object();
};

std::vector<StackVariant> expand_stack(const StackSpec& spec) {
  std::vector<StackVariant> variants = {{json::object(), json::object()}};
  for (const StackEntry& entry : spec.entries) {
    const std::vector<EntryVariant> choices = expand_entry(spec, entry);
    std::vector<StackVariant> next;
    next.reserve(variants.size() * choices.size());
    for (const StackVariant& variant : variants)
      for (const EntryVariant& choice : choices) {
        next.push_back(variant);
        next.back().stack[entry.name] = choice.entry;
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

}  // namespace

std::int64_t count_jobs(const SweepSpec& spec) {
  std::int64_t stacks = 0;
  bool fits = true;
  std::string axes;
  for (const StackSpec& stack : spec.stacks) {
    std::int64_t count = 1;
    std::string own;
    fits = describe_axes(stack, count, own) && fits;
    fits = fits && !__builtin_add_overflow(stacks, count, &stacks);
    if (!own.empty()) axes += (axes.empty() ? "" : "; ") + own;
  }
  std::int64_t jobs = stacks;
  for (const std::int64_t n : {length(spec.models), length(spec.lr_scales), length(spec.seeds)})
    fits = fits && multiply(jobs, n);
  if (fits && jobs <= kMaxJobs) return jobs;
  throw UsageError(
      {Problem{{spec.file, 0, 0},
               fmt::format("{} jobs: model {} x stack {} x lr_scale {} x seed {}{}",
                           fits ? fmt::to_string(jobs) : "more than 9e18", spec.models.size(), spec.stacks.size(),
                           spec.lr_scales.size(), spec.seeds.size(), axes.empty() ? "" : ", with the axes " + axes),
               fmt::format("at most {}", kMaxJobs),
               ""}});
}

std::vector<Job> expand(const SweepSpec& spec) {
  const auto count = static_cast<std::size_t>(count_jobs(spec));
  std::vector<Job> cells;  // one seed of one model; the others differ in little
  for (const StackSpec& stack : spec.stacks)
    for (const StackVariant& variant : expand_stack(stack))
      for (const double scale : spec.lr_scales) {
        Job cell;
        cell.stack = stack.name;
        cell.baseline = stack.baseline;
        cell.lr_scale = scale;
        cell.axes = variant.axes;
        cell.config["data"] = spec.data;
        cell.config["log"] = spec.log;
        cell.config["schedule"] = spec.schedule;
        cell.config["stack"] = scale_stack(stack, variant.stack, scale);
        cell.config["stop"] = spec.stop;
        cell.config["train"] = spec.train;
        cells.push_back(std::move(cell));
      }
  std::vector<Job> jobs;
  jobs.reserve(count);
  for (const std::int64_t seed : spec.seeds)
    for (const ModelSpec& model : spec.models)
      for (const Job& cell : cells) {
        Job& job = jobs.emplace_back(cell);
        job.model = model.name;
        job.seed = seed;
        job.config["model"] = model.config;
        if (!spec.init_from.is_null()) job.config["init_from"] = spec.init_from;
        if (!model.has_role(Role::router)) drop_router_keys(job.config);
        job.config["seed"] = seed;
        job.id = job_id(job.config);
      }
  return jobs;
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
