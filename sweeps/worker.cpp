#include "sweeps/worker.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/data/corpus.h"
#include "core/run_store.h"
#include "sweeps/initial_weights.h"
#include "sweeps/job.h"
#include "sweeps/provenance.h"
#include "sweeps/sweep_folder.h"
#include "sweeps/trainer.h"

namespace equisweep {
namespace {

volatile std::sig_atomic_t stop_flag = 0;
extern "C" void set_stop_flag(int) { stop_flag = 1; }

void install_signal_handlers() {
  struct sigaction action = {};
  action.sa_handler = set_stop_flag;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR2, &action, nullptr);
  action.sa_handler = SIG_IGN;  // a Ctrl-C at the terminal is the supervisor's to judge; a closed pipe is no reason to die
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

/// Makes glibc keep freed memory: activations of one step are those of the next, and giving them back to the kernel means
/// faulting every page in again.
void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2'000'000'000);
  mallopt(M_TOP_PAD, 64 << 20);
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
      // A line is shorter than PIPE_BUF, so it goes whole or not at all; a full pipe loses one update, which is no harm.
      [[maybe_unused]] const auto written = ::write(fd_, line.data(), line.size());
    }
    if (verbose_)
      fmt::print(stderr, "step {}/{}  loss {:.4f}  {:.0f} tokens/s\n", p.step, p.steps, p.loss, p.tokens_per_second);
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

/// Number of the newest attempt in `run_db`; 0 where there is none yet.
std::int64_t newest_attempt(const std::filesystem::path& run_db) {
  if (!std::filesystem::exists(run_db)) return 0;
  const auto db = open_read_only(run_db);
  SQLite::Statement query(*db, "SELECT coalesce(max(attempt), 0) FROM attempts");
  query.executeStep();
  return query.getColumn(0).getInt64();
}

/// The job itself; whatever it throws is what became of the run.
Outcome train_job(const WorkerOptions& options, const nlohmann::json& config, RunStore& store, AttemptEnd& end) {
  const std::filesystem::path corpora = options.corpora.empty() ? options.run_dir / "../../../corpora" : options.corpora;
  const auto& data = config.at("data");
  Corpus corpus = open_corpus(data.at("corpus"), config.at("model").at("vocab"), data.at("seed"), corpora);
  const std::string info = to_json(corpus.info);
  if (config.contains("init_from")) check_tokenizer(config.at("init_from").at("path").get<std::string>(), corpus.info);
  Trainer trainer(config, std::move(corpus), at::Device(options.device), store);
  malloc_trim(0);  // setting up has left holes of the size of weights, into which no activation fits
  store.set_corpus(info, trainer.parameters());
  end.state_bytes = trainer.state_bytes();
  TrainerHooks hooks;
  hooks.progress = ProgressWriter(options.progress_fd, options.verbose);
  hooks.stop_requested = [] { return stop_flag != 0; };
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

  const nlohmann::json config = read_job_config(options.run_dir);
  AttemptRow attempt;
  attempt.attempt = options.attempt > 0 ? options.attempt : newest_attempt(options.run_dir / "run.db") + 1;
  attempt.started_at = utc_now();
  attempt.device = options.device;
  attempt.threads = threads;
  attempt.environment = provenance().dump();
  RunStore store(options.run_dir / "run.db", job_id(config), canonical(config), attempt);

  AttemptEnd end;
  try {
    const Outcome outcome = train_job(options, config, store, end);
    end.state = outcome.state;
    end.message = outcome.message;
  } catch (const c10::OutOfMemoryError& e) {
    end.state = RunState::oom;
    end.message = e.what_without_backtrace();
  } catch (const std::bad_alloc&) {
    end.state = RunState::oom;
    end.message = "out of memory";
  } catch (const c10::Error& e) {
    end.state = RunState::failed;
    end.message = e.what_without_backtrace();
  } catch (const std::exception& e) {
    end.state = RunState::failed;
    end.message = e.what();
  }
  end.ended_at = utc_now();
  end.peak_rss_bytes = peak_rss_bytes();
  if (!end.message.empty()) fmt::print(stderr, "{}: {}\n", name_of(end.state), end.message);
  store.finish(end);
  if (end.state == RunState::preempted) return ExitCode::preempted;
  return is_result(end.state) ? ExitCode::ok : ExitCode::some_failed;
}

}  // namespace equisweep
