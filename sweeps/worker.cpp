#include "sweeps/worker.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/checkpoint.h"
#include "core/data/corpus.h"
#include "core/database.h"
#include "core/fault_point.h"
#include "core/kernels.h"
#include "core/process_lock.h"
#include "core/run_store.h"
#include "sweeps/initial_weights.h"
#include "sweeps/job.h"
#include "sweeps/last_words.h"
#include "sweeps/provenance.h"
#include "sweeps/sweep_folder.h"
#include "sweeps/trainer.h"
#include "sweeps/training_state.h"

namespace equisweep {
namespace {

volatile std::sig_atomic_t stop_flag = 0;
extern "C" void set_stop_flag(int) { stop_flag = 1; }

void install_signal_handlers() {
  struct sigaction action = {};
  action.sa_handler = set_stop_flag;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR2, &action, nullptr);
  struct sigaction before = {};
  sigaction(SIGINT, nullptr, &before);
  action.sa_flags |= SA_RESETHAND;  // Ctrl-C of a person who runs one job: the second one ends it at once
  if (before.sa_handler != SIG_IGN) sigaction(SIGINT, &action, nullptr);  // ignored: started in the background
  action.sa_flags = 0;
  action.sa_handler = SIG_IGN;  // a closed pipe is no reason to die, nor is a limit on the size of files: writing fails
  sigaction(SIGXFSZ, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

/// Makes glibc keep freed memory: activations of one step are those of the next, and giving them back to the kernel means
/// faulting every page in again.
void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2'000'000'000);
  mallopt(M_TOP_PAD, 64 << 20);
}

/// Numbers too small for a full mantissa (below 1.2e-38 in fp32) count as zero on every thread that trains. The processor
/// takes some hundred times as long for them, and a gate that is shut makes them: a run of gemma3-nano at a high learning
/// rate spent half of each step there.
void flush_denormal_numbers() {
  at::parallel_for(0, at::get_num_threads(), 1,
                   [](std::int64_t, std::int64_t) { at::globalContext().setFlushDenormal(true); });
}

/// Tells the supervisor, and a person where one watches, how far the job is; at most four times a second.
class ProgressWriter {
 public:
  ProgressWriter(int fd, bool verbose) : fd_(fd), verbose_(verbose) {}

  void operator()(const TrainingProgress& p) {
    const auto now = std::chrono::steady_clock::now();
    if (p.step != p.steps && now - last_ < std::chrono::milliseconds(250)) return;
    last_ = now;
    if (fd_ >= 0) {
      const std::string line = nlohmann::json({{"step", p.step},
                                               {"steps", p.steps},
                                               {"loss", p.loss},
                                               {"tokens_per_second", p.tokens_per_second},
                                               {"phase", p.phase}})
                                   .dump() +
                               "\n";
      // A line is shorter than PIPE_BUF, so it goes whole or not at all; a full pipe, which the launcher has made one that
      // does not wait, loses one update, which is no harm. A loss that is not finite is null.
      [[maybe_unused]] const auto written = ::write(fd_, line.data(), line.size());
    }
    if (!verbose_) return;
    const std::string loss = std::isfinite(p.loss) ? fmt::format("  loss {:.4f}", p.loss) : "";
    fmt::print(stderr, "step {}/{}{}  {:.0f} tokens/s\n", p.step, p.steps, loss, p.tokens_per_second);
  }

 private:
  int fd_;
  bool verbose_;
  std::chrono::steady_clock::time_point last_ = {};
};

std::int64_t peak_rss_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

/// What earlier attempts have left in run.db.
struct Recorded {
  std::int64_t attempt = 0;           ///< the newest
  std::int64_t result = 0;            ///< the one that is a result, if there is one
  RunState state = RunState::queued;  ///< of that
  std::int64_t complete = 0;          ///< every step up to this one has its row
};

Recorded recorded_in(const std::filesystem::path& run_db) {
  if (!std::filesystem::exists(run_db) || is_unborn(run_db)) return {};
  const auto db = open_read_only(run_db);
  return in_database(run_db, [&] {
    Recorded recorded;
    recorded.attempt = db->execAndGet("SELECT coalesce(max(attempt), 0) FROM attempts").getInt64();
    recorded.complete = db->execAndGet(
                              "SELECT coalesce(max(step), 0) FROM "
                              "(SELECT step, row_number() OVER (ORDER BY step) AS n FROM loss_curve) WHERE step = n")
                            .getInt64();
    SQLite::Statement result(*db,
                             "SELECT attempt, state FROM attempts WHERE state IN ('done', 'diverged') ORDER BY attempt");
    if (result.executeStep()) {
      recorded.result = result.getColumn(0).getInt64();
      recorded.state = *run_state_from_name(result.getColumn(1).getString());
    }
    return recorded;
  });
}

std::string environment_in_words(const nlohmann::json& provenance, const std::string& device, int threads) {
  return fmt::format("{}, {} threads, equisweep {}, LibTorch {}", device, threads,
                     provenance.at("commit").get<std::string>(), provenance.at("libtorch").get<std::string>());
}

/// Where the job goes on. It must be known before the attempt is registered, since that says which rows still count.
FoundCheckpoint resume_point(const std::filesystem::path& folder, const nlohmann::json& config, std::int64_t complete) {
  if (!std::filesystem::exists(folder)) return {};
  try {
    return find_checkpoint(folder, job_id(config), training_state_layout(config), complete);
  } catch (const std::exception& error) {  // a config that builds no model; setting up will say so
    if (is_out_of_memory(error)) throw;    // there is one, and it is not to be trained again from the beginning
    return {.checkpoint = {}, .refused = {error.what()}};
  }
}

void write_events(RunStore& store, const FoundCheckpoint& found, const std::string& environment, const std::string& faults) {
  const std::int64_t step = found.checkpoint ? found.checkpoint->step : 0;
  if (!faults.empty()) store.add_event(step, "fault", fmt::format("EQUISWEEP_FAULT={}: this run is made to fail", faults));
  for (const std::string& why : found.refused) store.add_event(step, "warning", "checkpoint not used: " + why);
  if (!found.checkpoint) return;
  store.add_event(step, "resume", fmt::format("from {}", checkpoint_file("ckpt", step).string()));
  if (found.checkpoint->environment != environment) {
    store.add_event(step, "warning",
                    fmt::format("the checkpoint was made by another environment ({}) than goes on with it ({}): losses may "
                                "differ in their last digits from those of an uninterrupted run",
                                found.checkpoint->environment, environment));
  }
}

/// results/corpora for results/<sweep>/runs/<id>, as the path is written: a sweep may be a link to another disk.
std::filesystem::path corpora_beside(const std::filesystem::path& run_dir) {
  std::filesystem::path folder = std::filesystem::absolute(run_dir / ".").lexically_normal().parent_path();
  for (int i = 0; i < 3; ++i) folder = folder.parent_path();
  return corpora_folder(folder);
}

constexpr std::uintmax_t kBytesPerStepRow = 1000;  // measured on two layers: 70, and 700 with spectral norms every 10 steps
constexpr std::uintmax_t kSmallestDatabase = 1 << 20;

/// The job itself; whatever it throws is what became of the run.
Outcome train_job(const WorkerOptions& options, const nlohmann::json& config, RunStore& store,
                  std::optional<Checkpoint> resume, const std::string& environment, AttemptEnd& end) {
  fault_point("worker.setup");
  set_kernels(config.at("train").value("kernels", "fused") == "reference" ? Kernels::reference : Kernels::fused);
  const std::filesystem::path corpora = options.corpora.empty() ? corpora_beside(options.run_dir) : options.corpora;
  const auto& data = config.at("data");
  Corpus corpus = open_corpus(data.at("corpus"), config.at("model").at("vocab"), data.at("seed"), corpora);
  const std::string info = to_json(corpus.info);
  if (config.contains("init_from") && !resume)
    check_tokenizer(config.at("init_from").at("path").get<std::string>(), corpus.info);
  Checkpointer checkpointer(options.run_dir / kCheckpoints, options.checkpoint, store);
  Trainer trainer(config, std::move(corpus), at::Device(options.device), store,
                  {.checkpointer = &checkpointer, .resume = resume ? &*resume : nullptr, .environment = environment});
  resume.reset();
  malloc_trim(0);  // setting up has left holes of the size of weights, into which no activation fits
  store.set_corpus(info, trainer.parameters());
  end.state_bytes = trainer.state_bytes();
  const auto steps = config.at("train").at("steps").get<std::uint64_t>();
  probe_run_folder(options.run_dir,
                   {.checkpoint = static_cast<std::uintmax_t>(trainer.weight_bytes() + trainer.state_bytes()),
                    .database = kSmallestDatabase + steps * kBytesPerStepRow},
                   options.checkpoint);
  fault_point("worker.resume");
  TrainerHooks hooks;
  std::int64_t step = 0;
  hooks.progress = [&, writer = ProgressWriter(options.progress_fd, options.verbose)](const TrainingProgress& p) mutable {
    step = p.step;
    writer(p);
  };
  hooks.stop_requested = [&] { return stop_flag != 0 || (options.stop_after > 0 && step >= options.stop_after); };
  const Outcome outcome = trainer.run(hooks);
  if (outcome.state == RunState::done && config.at("log").contains("weights"))
    trainer.save_weights(options.run_dir / kFinalWeights);
  return outcome;
}

}  // namespace

ExitCode run_worker(const WorkerOptions& options) {
  install_signal_handlers();
  keep_freed_memory();
  const int threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(threads);
  flush_denormal_numbers();
  const std::string faults = arm_faults_of_environment();
  fault_point("worker.start");

  const nlohmann::json config = read_job_config(options.run_dir);
  const ProcessLock lock(options.run_dir / kWorkerLock, "is training this job");
  const Recorded recorded = recorded_in(options.run_dir / "run.db");
  if (is_result(recorded.state)) {
    throw Error(
        fmt::format("{}: attempt {} is {}: a result stays a result; `equisweep rerun {}` trains the job again beside "
                    "it, and a copy of config.yaml in a folder of its own can be trained in any way",
                    printable(options.run_dir.string(), 4096), recorded.result, name_of(recorded.state), job_id(config)),
        ExitCode::nothing_matches);
  }
  FoundCheckpoint found = resume_point(options.run_dir / kCheckpoints, config, recorded.complete);
  const nlohmann::json made_by = provenance();
  const std::string environment = environment_in_words(made_by, options.device, threads);
  AttemptRow attempt;
  attempt.attempt = options.attempt > 0 ? options.attempt : recorded.attempt + 1;
  attempt.resume_step = found.checkpoint ? found.checkpoint->step : 0;
  attempt.started_at = utc_now();
  attempt.device = options.device;
  attempt.threads = threads;
  attempt.environment = made_by.dump();
  RunStore store(options.run_dir / "run.db", job_id(config), canonical(config), attempt);

  AttemptEnd end;
  try {
    write_events(store, found, environment, faults);
    const Outcome outcome = train_job(options, config, store, std::move(found.checkpoint), environment, end);
    end.state = outcome.state;
    end.message = outcome.message;
  } catch (const c10::Error& e) {
    end.state = is_out_of_memory(e) ? RunState::oom : RunState::failed;
    end.message = e.what_without_backtrace();
  } catch (const std::bad_alloc&) {
    end.state = RunState::oom;
    end.message = "out of memory";
  } catch (const std::exception& e) {
    end.state = RunState::failed;
    end.message = e.what();
  }
  end.ended_at = utc_now();
  end.peak_rss_bytes = peak_rss_bytes();
  if (!end.message.empty()) fmt::print(stderr, "{}: {}\n", name_of(end.state), end.message);
  try {
    store.finish(end);
  } catch (const DatabaseError& error) {  // a newer attempt, or no room: nobody may take this run for finished
    fmt::print(stderr, "{}\n", error.what());
    return error.code();
  }
  if (end.state == RunState::done) remove_checkpoints(options.run_dir / kCheckpoints);
  if (end.state == RunState::preempted) return ExitCode::preempted;
  return is_result(end.state) ? ExitCode::ok : ExitCode::some_failed;
}

}  // namespace equisweep
