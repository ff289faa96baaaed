#include <fmt/ranges.h>

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "sweeps/cli/command.h"
#include "sweeps/cli/resources.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/estimate.h"
#include "sweeps/file/spec.h"
#include "sweeps/file/stacks.h"
#include "sweeps/plan.h"
#include "sweeps/provenance.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct PlanOptions {
  std::filesystem::path file, results;
  std::vector<std::string> sets, only;
  bool json = false, ids = false;
};

using States = std::map<std::string, RunState>;

/// What is known of a job from earlier runs; queued where nothing is.
RunState known_state(const States& states, const std::string& id) {
  const auto it = states.find(id);
  return it == states.end() ? RunState::queued : it->second;
}

/// One model with one stack: the jobs of a kind, and what they will take.
struct Cost {
  std::string model, stack;
  MemoryEstimate memory = {};
  std::optional<Measurements::Memory> measured = {};
  std::optional<Measurements::Speed> speed = {};
  double seconds = 0;      ///< of one job
  std::int64_t jobs = 0;   ///< different ones
  std::int64_t to_do = 0;  ///< of them
};

std::vector<Cost> costs_of(const std::vector<Job>& jobs, const States& states, const Measurements& measurements,
                           const Device& device) {
  std::vector<Cost> costs;
  ModelSizes sizes;
  std::set<std::string_view> seen;
  std::map<std::pair<std::string_view, std::string_view>, std::size_t> index;
  for (const Job& job : jobs) {
    if (!seen.insert(job.id).second) continue;
    const auto [it, fresh] = index.try_emplace({job.model, job.stack}, costs.size());
    if (fresh) {
      const std::string kind = device.visible.empty() ? "cpu" : "cuda:0";
      Cost& cost = costs.emplace_back();
      cost.model = job.model, cost.stack = job.stack, cost.memory = estimate_memory(job.config, sizes);
      cost.measured = measurements.memory(job.config, kind);
      cost.speed = measurements.speed(job.config, kind, device.threads);
      if (cost.speed) cost.seconds = estimate_seconds(job.config, *cost.speed);
    }
    Cost& cost = costs[it->second];
    ++cost.jobs;
    cost.to_do += is_result(known_state(states, job.id)) ? 0 : 1;
  }
  return costs;
}

std::string megabytes(double bytes) { return bytes < 0 ? "-" : fmt::format("{:.4g} MB", bytes / 1e6); }

std::string duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return seconds < 172'800 ? fmt::format("{:.1f} h", seconds / 3600) : fmt::format("{:.1f} days", seconds / 86'400);
}

std::string point_of(const Trial& trial) {
  std::string text = fmt::format("lr_scale {}", trial.lr_scale);
  for (const auto& [path, value] : trial.axes.items()) text += fmt::format(", {} {}", path, value.dump());
  return text;
}

/// "best lr_scale 2, mean loss 3.4120; to be confirmed"
std::string outcome_of(const Tuning& t) {
  if (t.winner)
    return fmt::format("best {}, mean loss {:.4f}{}", point_of(t.trials[*t.winner]), t.trials[*t.winner].loss,
                       t.at_edge ? ", on the edge" : "");
  return t.done ? "every trial diverged" : "not all trials have a result";
}

void print_tuning(const SweepSpec& spec, const SweepPlan& plan, const PlanSummary& summary) {
  std::vector<std::vector<std::string>> rows;
  for (const Tuning& t : plan.tunings) {
    std::size_t results = 0, diverged = 0;
    for (const Trial& trial : t.trials) results += trial.results, diverged += trial.diverged;
    rows.push_back(
        {t.model, t.stack + (t.baseline ? " (baseline)" : ""),
         fmt::format("{}{}", t.trials.size(), t.rounds > 0 ? fmt::format(" ({} added)", t.trials.size() - t.grid) : ""),
         fmt::format("{} of {}", results, t.trials.size() * spec.tune->seeds.size()), fmt::format("{}", diverged),
         outcome_of(t)});
  }
  const auto known = std::count_if(plan.jobs.begin(), plan.jobs.end(), [](const Job& j) { return j.phase == "confirm"; });
  fmt::print("\ntune: lowest mean final validation loss over seeds {}\n{}", fmt::join(spec.tune->seeds, ", "),
             text_table({"model", "stack", "trials", "results", "diverged", "so far"}, rows));
  fmt::print("confirm: seeds {}; {} jobs are known, {} more when tuning is done\n",
             fmt::join(spec.tune->confirm_seeds, ", "), known, summary.to_confirm);
  for (const std::string& note : tuning_notes(plan.tunings)) fmt::print("note: {}\n", note);
}

void print_costs(const std::vector<Cost>& costs, const std::vector<Device>& devices) {
  std::vector<std::vector<std::string>> rows;
  double seconds = 0;
  std::int64_t to_do = 0, timed = 0;
  for (const Cost& c : costs) {
    rows.push_back({c.model, c.stack, fmt::format("{}", c.jobs), fmt::format("{}", c.to_do), megabytes(c.memory.weights),
                    megabytes(c.memory.gradients), megabytes(c.memory.state), megabytes(c.memory.activations),
                    megabytes(c.memory.total()), c.measured ? megabytes(c.measured->peak_bytes) : "-",
                    c.speed ? duration(c.seconds) : "-"});
    to_do += c.to_do;
    if (c.speed) timed += c.to_do, seconds += c.seconds * static_cast<double>(c.to_do);
  }
  fmt::print("\n{}", text_table({"model", "stack", "jobs", "to do", "weights", "gradients", "state", "activations",
                                 "memory of a job", "measured", "time of a job"},
                                rows));
  fmt::print("memory: with {} MB for the program; activations are a rule of thumb; measured: peak of jobs that ended here\n",
             kProcessBytes / 1e6);
  std::int64_t slots = 0;
  for (const Device& d : devices) slots += d.slots;
  if (timed > 0)
    fmt::print("time: about {} for {} of {} jobs to do, {} at a time, at the speed of finished jobs of this machine\n",
               duration(seconds / static_cast<double>(std::min(slots, timed))), timed, to_do, std::min(slots, timed));
  if (timed < to_do)
    fmt::print("time: no finished job on this machine says how fast {} jobs are\n", timed == 0 ? "these" : "the others");
}

nlohmann::json json_of(const Cost& c) {
  nlohmann::json result = {{"model", c.model},
                           {"stack", c.stack},
                           {"jobs", c.jobs},
                           {"to_do", c.to_do},
                           {"memory_bytes",
                            {{"weights", c.memory.weights},
                             {"gradients", c.memory.gradients},
                             {"state", c.memory.state},
                             {"activations", c.memory.activations},
                             {"process", c.memory.process},
                             {"total", c.memory.total()}}}};
  if (c.measured) result["measured"] = {{"peak_bytes", c.measured->peak_bytes}, {"jobs", c.measured->jobs}};
  if (c.speed)
    result["time"] = {{"seconds_a_job", c.seconds},
                      {"tokens_per_second", c.speed->tokens_per_second},
                      {"threads", c.speed->threads},
                      {"jobs", c.speed->jobs}};
  return result;
}

nlohmann::json json_of(const Tuning& t) {
  nlohmann::json trials = nlohmann::json::array();
  for (const Trial& trial : t.trials) {
    trials.push_back(
        {{"lr_scale", trial.lr_scale}, {"axes", trial.axes}, {"results", trial.results}, {"diverged", trial.diverged}});
    if (std::isfinite(trial.loss)) trials.back()["loss"] = trial.loss;
  }
  nlohmann::json result = {{"model", t.model},   {"stack", t.stack}, {"baseline", t.baseline},        {"trials", trials},
                           {"rounds", t.rounds}, {"done", t.done},   {"at_edge", t.done && t.at_edge}};
  if (t.winner) result["winner"] = *t.winner;
  return result;
}

void print_plan(const SweepSpec& spec, const SweepPlan& plan, const PlanSummary& summary, const std::vector<Cost>& costs,
                const States& states) {
  nlohmann::json list = nlohmann::json::array();
  for (const Job& job : plan.jobs) {
    list.push_back({{"id", job.id},
                    {"model", job.model},
                    {"stack", job.stack},
                    {"baseline", job.baseline},
                    {"lr_scale", job.lr_scale},
                    {"seed", job.seed},
                    {"axes", job.axes},
                    {"state", name_of(known_state(states, job.id))},
                    {"config", job.config}});
    if (!job.phase.empty()) list.back()["phase"] = job.phase;
  }
  nlohmann::json result = {{"name", spec.name},
                           {"jobs", list},
                           {"different", summary.unique},
                           {"tokens_a_run", summary.tokens_per_run},
                           {"tokens", summary.tokens},
                           {"parameters", nlohmann::json::object()},
                           {"costs", nlohmann::json::array()}};
  for (const auto& model : summary.models) result["parameters"][model.name] = model.parameters;
  for (const Cost& cost : costs) result["costs"].push_back(json_of(cost));
  if (spec.tune) {
    result["tunings"] = nlohmann::json::array();
    for (const Tuning& t : plan.tunings) result["tunings"].push_back(json_of(t));
    result["to_confirm"] = summary.to_confirm;
    result["notes"] = tuning_notes(plan.tunings);
  }
  fmt::print("{}\n", result.dump(2));
}

void print_jobs(const SweepSpec& spec, const SweepPlan& plan, const PlanSummary& summary, const States& states) {
  std::vector<std::string> header = {"job", "model", "stack", "lr_scale", "seed", "axes", "state"};
  if (spec.tune) header.insert(header.begin() + 1, "phase");
  std::vector<std::vector<std::string>> rows;
  std::set<std::string_view> seen;
  std::size_t finished = 0;
  for (const Job& job : plan.jobs) {
    const RunState state = known_state(states, job.id);
    std::vector<std::string>& row = rows.emplace_back();
    row.push_back(job.id);
    if (spec.tune) row.push_back(job.phase);
    row.insert(row.end(), {job.model, job.stack + (job.baseline ? " (baseline)" : ""), fmt::format("{}", job.lr_scale),
                           std::to_string(job.seed), job.axes.empty() ? "" : job.axes.dump(), std::string(name_of(state))});
    if (seen.insert(job.id).second && is_result(state)) ++finished;
  }
  fmt::print("{}\n{} jobs, {} different, {} already done\n", text_table(header, rows), summary.jobs, summary.unique,
             finished);
  for (const auto& model : summary.models)
    fmt::print("{}: {} parameters, {} jobs\n", model.name, model.parameters, model.jobs);
  fmt::print("{} tokens a run, {:.4g} in all\n", summary.tokens_per_run, summary.tokens);
}

ExitCode show_plan(const PlanOptions& options) {
  const SweepSpec spec = read_sweep_file(options.file, options.sets);
  const std::filesystem::path folder = options.results / spec.name;
  SweepPlan plan = make_plan(spec, spec.tune ? recorded_results(folder) : TuneResults{});
  const std::size_t in_all = jobs_of_file(spec, plan);
  const std::vector<std::string> changes =
      options.ids || options.json ? std::vector<std::string>{} : plan_changes(recorded_jobs(folder), plan.jobs);
  if (!options.only.empty()) plan.jobs = select(spec, plan.jobs, options.only);
  if (options.ids) {
    for (const Job& job : plan.jobs) fmt::print("{}\n", job.id);
    return ExitCode::ok;
  }
  const States states = recorded_states(folder);
  const PlanSummary summary = summarize(spec, plan);
  const nlohmann::json here = provenance();
  const Measurements measurements(options.results, here.at("host"), here.at("cpu"));
  const std::vector<Device> devices = devices_for(spec, {}, "", in_all, options.results).devices;
  const std::vector<Cost> costs = costs_of(plan.jobs, states, measurements, devices[0]);
  if (options.json) {
    print_plan(spec, plan, summary, costs, states);
    return ExitCode::ok;
  }
  print_jobs(spec, plan, summary, states);
  print_costs(costs, devices);
  if (spec.tune) print_tuning(spec, plan, summary);
  for (const std::string& note : stack_notes(spec)) fmt::print("note: {}\n", note);
  for (const std::string& change : changes) fmt::print("changed: {}\n", change);
  return ExitCode::ok;
}

}  // namespace

void add_plan(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("plan",
                             "The jobs of a sweep file: what would run, how much it is, and what is already done.\n\n"
                             "  equisweep plan sweeps/examples/demo.yaml\n"
                             "  equisweep plan sweeps/examples/demo.yaml --set grid.seed=[0,1,2] --json\n"
                             "  equisweep plan sweeps/examples/demo.yaml --only stack=muon,seed=0 --ids\n");
  auto options = std::make_shared<PlanOptions>();
  add_sweep_options(*command, options->file, options->sets, &options->only);
  command->add_flag("--json", options->json, "every job with its resolved config");
  command->add_flag("--ids", options->ids, "job ids only");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return show_plan(*options); }; });
}

}  // namespace equisweep
