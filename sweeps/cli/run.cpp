#include <SQLiteCpp/SQLiteCpp.h>

#include <cstdio>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/data/corpus.h"
#include "core/database.h"
#include "core/run_store.h"
#include "sweeps/cli/command.h"
#include "sweeps/cli/resources.h"
#include "sweeps/file/spec.h"
#include "sweeps/file/stacks.h"
#include "sweeps/initial_weights.h"
#include "sweeps/launcher/local.h"
#include "sweeps/plan.h"
#include "sweeps/provenance.h"
#include "sweeps/recorded_corpora.h"
#include "sweeps/supervisor.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct RunCommandOptions {
  std::filesystem::path file, results;
  std::vector<std::string> sets, only;
  std::optional<int> jobs;
  std::string gpus;
  bool dry_run = false, fail_fast = false;
};

/// Opens every corpus that the jobs need, once for each vocabulary: a corpus that must be prepared is prepared here and not
/// by the first worker, and a bad shard is heard of before anything starts. Jobs whose corpus cannot be had fail alone, but
/// if that is so for all of them nothing starts.
void prepare_corpora(const std::vector<Job>& jobs, const nlohmann::json& init_from, const std::filesystem::path& corpora) {
  std::set<std::tuple<std::string, std::int64_t, std::uint64_t>> needed;
  for (const Job& job : jobs)
    needed.emplace(job.config.at("data").at("corpus"), job.config.at("model").at("vocab"), job.config.at("data").at("seed"));
  std::size_t usable = 0;
  std::string last_problem;
  for (const auto& [name, vocabulary, seed] : needed) {
    try {
      const CorpusInfo info = open_corpus(name, vocabulary, seed, corpora).info;
      if (!init_from.is_null()) check_tokenizer(init_from.at("path").get<std::string>(), info);
      ++usable;
      fmt::print(stderr,
                 "corpus {} with {} pieces: {} training and {} validation tokens, unigram entropy {:.3f} nats a token\n",
                 info.name, info.vocabulary, info.train_tokens, info.val_tokens, info.unigram_entropy);
    } catch (const Error& e) {
      last_problem = e.what();
      fmt::print(stderr, "corpus {} with {} pieces: {}\n", printable(name), vocabulary, last_problem);
    }
  }
  if (usable == 0) throw Error("no corpus of this sweep can be used; nothing was started");
}

CheckpointSettings checkpoints_of(const SweepSpec& spec) {
  return {.every = spec.checkpoint.every, .minutes = spec.checkpoint.minutes, .keep = spec.checkpoint.keep};
}

struct LastAttempt {
  RunState state = RunState::queued;
  std::int64_t attempt = 0;
};

/// What sweep.db, or run.db, says of its jobs; empty where there is none.
std::map<std::string, LastAttempt> last_attempts(const std::filesystem::path& database) {
  std::map<std::string, LastAttempt> known;
  std::error_code none;
  if (!std::filesystem::exists(database, none) || std::filesystem::file_size(database, none) == 0) return known;
  const auto db = open_read_only(database);
  in_database(database, [&] {
    SQLite::Statement query(*db, "SELECT job, state, attempt FROM runs");
    while (query.executeStep())
      if (const auto state = run_state_from_name(query.getColumn(1).getString()))
        known[query.getColumn(0).getString()] = {.state = *state, .attempt = query.getColumn(2).getInt64()};
  });
  return known;
}

/// What would be started, without starting or writing anything: what the supervisor would make of the records, of which
/// those in the folders of runs may be newer than its own.
ExitCode show_commands(const SweepSpec& spec, const std::vector<Job>& jobs, const RunCommandOptions& options,
                       const std::vector<Device>& devices) {
  DryLauncher launcher(std::cout);
  const auto known = last_attempts(sweep_folder(options.results, spec.name) / "sweep.db");
  for (const Job& job : start_order(jobs)) {
    const std::filesystem::path folder = run_folder(options.results, spec.name, job.id);
    const auto recorded = known.find(job.id);
    LastAttempt last = recorded == known.end() ? LastAttempt{} : recorded->second;
    if (!is_result(last.state)) {
      const auto own = last_attempts(folder / "run.db");
      const auto it = own.find(job.id);
      if (it != own.end() &&
          (it->second.attempt > last.attempt || (it->second.attempt == last.attempt && is_result(it->second.state))))
        last = it->second;
    }
    if (is_result(last.state) || last.state == RunState::cancelled) continue;
    launcher.start({.folder = folder,
                    .attempt = last.attempt + 1,
                    .device = devices[0].visible.empty() ? "cpu" : "cuda:0",
                    .visible = devices[0].visible,
                    .threads = devices[0].threads,
                    .checkpoint = checkpoints_of(spec)});
  }
  return ExitCode::ok;
}

ExitCode run(const RunCommandOptions& options) {
  const SweepSpec spec = read_sweep_file(options.file, options.sets);
  const std::filesystem::path folder = sweep_folder(options.results, spec.name);
  const SweepPlan plan = make_plan(spec, spec.tune ? recorded_results(folder) : TuneResults{});
  const std::vector<Job>& jobs = plan.jobs;
  const std::vector<Job> chosen = select(spec, jobs, options.only);
  const auto [devices, measured] = devices_for(spec, options.jobs, options.gpus, jobs_of_file(spec, plan), options.results);
  if (options.dry_run) return show_commands(spec, chosen, options, devices);
  require_gpu(spec, options.gpus, devices);
  if (measured)
    fmt::print(stderr, "jobs at a time: {}, threads each: {}, the fastest that `doctor --tune` has measured ({})\n",
               devices[0].slots, devices[0].threads, packing_file(options.results).string());
  for (const std::string& change : plan_changes(recorded_jobs(folder), jobs)) fmt::print(stderr, "changed: {}\n", change);
  for (const std::string& note : stack_notes(spec)) fmt::print(stderr, "note: {}\n", note);
  for (const std::string& note : tuning_notes(plan.tunings)) fmt::print(stderr, "note: {}\n", note);
  std::filesystem::create_directories(options.results);
  prepare_corpora(chosen, spec.init_from, corpora_folder(options.results));
  check_recorded_corpora(folder, jobs, corpora_folder(options.results));

  RunOptions run_options;
  run_options.results = options.results;
  run_options.devices = devices;
  run_options.fail_fast = options.fail_fast;
  if (!options.only.empty()) {
    run_options.only.emplace();
    for (const Job& job : chosen) run_options.only->insert(job.id);
  }
  if (spec.tune) {
    run_options.replan = [&](const TuneResults& results) {
      std::vector<Job> all = expand(spec, results);
      if (run_options.only)  // what --only selects among the jobs that were not known before
        for (const Job& job : all)
          if (is_selected(spec, job, options.only)) run_options.only->insert(job.id);
      return all;
    };
  }
  run_options.retry.max = spec.retry.max;
  run_options.retry.on = spec.retry.on;
  run_options.timeout = spec.resources.minutes.value_or(0) * 60;
  run_options.checkpoint = checkpoints_of(spec);
  run_options.meta = {{"name", spec.name},
                      {"notes", spec.notes},
                      {"tags", nlohmann::json(spec.tags).dump()},
                      {"report", spec.report.dump()},
                      {"file", spec.text},
                      {"set", nlohmann::json(options.sets).dump()},
                      {"provenance", provenance().dump()}};
  const CaughtSignals signals;
  StandardError terminal;
  LocalLauncher launcher;
  return run_sweep(spec.name, jobs, run_options, {launcher, terminal, signals, steady_seconds});
}

}  // namespace

void add_run(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand("run",
                                             "Trains every job of a sweep that is not done yet, one process each. The same "
                                             "command continues after an interruption.\n"
                                             "Ctrl-C once: start no more and let the running finish; twice: stop them at "
                                             "the end of their step; three times: kill them.\n\n"
                                             "  equisweep run sweeps/examples/demo.yaml\n"
                                             "  equisweep run sweeps/examples/demo.yaml --set grid.seed=[0,1,2] --jobs 2\n"
                                             "  equisweep run sweeps/examples/demo.yaml --gpus 0,2-3\n"
                                             "  equisweep run sweeps/examples/demo.yaml --only stack=muon,seed=0\n");
  auto options = std::make_shared<RunCommandOptions>();
  add_sweep_options(*command, options->file, options->sets, &options->only);
  command
      ->add_option("--jobs", options->jobs,
                   "how many jobs at a time; default: one a GPU; without GPUs what `doctor --tune` measured, or one a core")
      ->check(CLI::PositiveNumber);
  command->add_option("--gpus", options->gpus, "which GPUs: 0,2-3, names (GPU-..., MIG-...), or none; default: all")
      ->type_name("LIST");
  command->add_flag("--dry-run", options->dry_run, "print what would be started");
  command->add_flag("--fail-fast", options->fail_fast, "start nothing more once a job has failed");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace equisweep
