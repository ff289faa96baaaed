// How long the report of a large sweep takes, and how much memory, against the number of steps.
//
//   bench_report                                   1,000 runs of 1,000 and of 10,000 steps
//   bench_report --runs 200 --steps 500 --folder big        keeps the databases and the reports there
//
// The sweeps are made up: their losses, norms and loads are random walks, and they say so. Each report is written by a
// process of its own, whose time and largest memory are printed, with and without those of gnuplot.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>

#include "analysis/report/report.h"
#include "core/database.h"
#include "tests/support/temp_folder.h"

extern char** environ;

namespace equisweep {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kBatchTokens = 4096, kEvalEvery = 25, kLogEvery = 100, kSeeds = 20, kLayers = 4, kExperts = 8;
constexpr std::array kModels = {"made-dense", "made-experts"};
constexpr std::array kStacks = {"base", "first", "second", "third", "fourth"};
constexpr std::array kScales = {0.25, 0.5, 1.0, 2.0, 4.0};
constexpr std::array kRoles = {"attention_q", "attention_k", "attention_v", "attention_o", "mlp_gate", "mlp_up", "mlp_down"};

/// A statement that is run with one row of values after another.
class Inserter {
 public:
  Inserter(SQLite::Database& db, const std::string& sql) : statement_(db, sql) {}
  template <typename... Values>
  void operator()(const Values&... values) {
    int index = 0;
    (statement_.bind(++index, values), ...);
    statement_.exec();
    statement_.reset();
  }

 private:
  SQLite::Statement statement_;
};

struct Tables {
  explicit Tables(SQLite::Database& db)
      : runs(db,
             "INSERT INTO runs (run, job, config, state, attempt, parameters, corpus) VALUES (?, ?, ?, 'done', 1, 1000000, "
             "?)"),
        cells(db, "INSERT INTO cells (cell, job, model, stack, baseline, lr_scale, seed) VALUES (?, ?, ?, ?, ?, ?, ?)"),
        attempts(db,
                 "INSERT INTO attempts (run, attempt, resume_step, state, started_at, device, threads, peak_rss_bytes, "
                 "state_bytes, environment) VALUES (?, 1, 0, 'done', '2026-01-01T00:00:00Z', 'cpu', 1, 400000000, 8000000, "
                 "'{\"cpu\": \"none: made up\", \"commit\": \"made up\"}')"),
        steps(
            db,
            "INSERT INTO steps (run, attempt, step, tokens, seconds, loss, lr, grad_norm, step_seconds, optimizer_seconds, "
            "diagnostics_seconds) VALUES (?, 1, ?, ?, ?, ?, 0.003, ?, ?, ?, 0.0001)"),
        evals(db,
              "INSERT INTO evals (run, attempt, step, tokens, seconds, loss, eval_tokens) VALUES (?, 1, ?, ?, ?, ?, 32768)"),
        blocks(db, "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, '[64,64]', 'matrix', 'made')"),
        block_stats(db, "INSERT INTO block_stats VALUES (?, 1, ?, ?, ?, ?, 0.01, ?, 0.1, 0.003, 0)"),
        equivariance(
            db,
            "INSERT INTO equivariance (run, attempt, step, block, \"group\", claimed, gradients, verdict, error, floor, "
            "ratio, horizontality) VALUES (?, 1, ?, ?, 'rows.permutation', 1, 5, 'holds', ?, 1e-7, ?, 0)"),
        router(db,
               "INSERT INTO router_stats (run, attempt, step, layer, load_cv, load_entropy, dead_fraction, z_loss, "
               "balance_loss, logit_norm, max_violation) VALUES (?, 1, ?, ?, ?, 0.95, 0, 5, 1, ?, 0.5)"),
        load(db, "INSERT INTO expert_load VALUES (?, 1, ?, ?, ?, ?)") {}
  Inserter runs, cells, attempts, steps, evals, blocks, block_stats, equivariance, router, load;
};

/// A random walk that tends to `goal`.
struct Walk {
  double value, goal, pace, noise;
  double next(std::minstd_rand& random) {
    const double u = static_cast<double>(random()) / static_cast<double>(std::minstd_rand::max()) - 0.5;
    return value += pace * (goal - value) + noise * u;
  }
};

void make_run(Tables& tables, std::int64_t number, std::int64_t steps) {
  const auto n = static_cast<std::size_t>(number - 1);
  const std::size_t model = n / kSeeds / kScales.size() / kStacks.size() % kModels.size();
  const std::size_t stack = n / kSeeds / kScales.size() % kStacks.size(), scale = n / kSeeds % kScales.size();
  const std::int64_t seed = (number - 1) % kSeeds;
  const std::string job = fmt::format("{:016x}", number);
  const double rate = 0.003 * kScales[scale];
  const nlohmann::json config = {
      {"data", {{"corpus", "made"}, {"batch_tokens", kBatchTokens}, {"seq_len", 128}, {"seed", 1}}},
      {"train", {{"steps", steps}, {"precision", "fp32"}, {"grad_clip", 1}}},
      {"stack",
       {{"default", {{"rule", "adamw"}, {"lr", rate}}},
        {"matrix", {{"rule", stack == 0 ? "adamw" : "muon"}, {"lr", rate}}}}}};
  tables.runs(number, job, config.dump(), R"({"name":"random walks","unigram_entropy":5.5})");
  tables.cells(number, job, kModels[model], kStacks[stack], stack == 0 ? 1 : 0, kScales[scale], seed);
  tables.attempts(number);

  std::minstd_rand random(static_cast<std::uint32_t>(number));
  const double away = std::log2(kScales[scale]), goal = 3.5 - 0.02 * static_cast<double>(stack) + 0.03 * away * away;
  Walk loss{6.2, goal, 6.0 / static_cast<double>(steps), 0.01}, norm{1, 3, 1e-3, 0.01}, load{0.2, 0.3, 0.05, 0.02};
  double seconds = 0;
  for (std::int64_t step = 0; step <= steps; ++step) {
    const double value = loss.next(random);
    if (step % kEvalEvery == 0 || step == steps) tables.evals(number, step, step * kBatchTokens, seconds, value);
    if (step == 0) continue;
    seconds += 0.02;
    tables.steps(number, step, step * kBatchTokens, seconds, value, norm.next(random), 0.02, 0.004);
  }
  std::int64_t block = 0;
  for (const char* role : kRoles)
    for (std::int64_t layer = 0; layer < kLayers; ++layer, ++block)
      tables.blocks(number, block, fmt::format("{}.{}", role, layer), role, layer);
  for (std::int64_t step = kLogEvery; step <= steps; step += kLogEvery) {
    for (std::int64_t b = 0; b < block; ++b) {
      const double x = norm.next(random);
      tables.block_stats(number, step, b, x, 20 + x, 0.01 * x);
    }
    const double error = 1e-7 * (1 + std::abs(load.next(random)));
    tables.equivariance(number, step, step / kLogEvery % block, error, error / 1e-7);
    if (model == 0) continue;
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      tables.router(number, step, layer, load.next(random), norm.next(random));
      for (std::int64_t expert = 0; expert < kExperts; ++expert) tables.load(number, step, layer, expert, 400 + 20 * expert);
    }
  }
}

void make_sweep(const fs::path& file, std::int64_t runs, std::int64_t steps) {
  const auto db = open_writable(file);
  db->exec("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF");
  db->exec("BEGIN");
  Inserter meta(*db, "INSERT INTO meta VALUES (?, ?)");
  meta("name", fmt::format("made-{}x{}", runs, steps));
  meta("notes", "made up by bench_report: random walks, nothing was trained");
  {
    Tables tables(*db);
    for (std::int64_t run = 1; run <= runs; ++run) make_run(tables, run, steps);
  }
  db->exec("COMMIT");
}

/// What this process has held at most, and the largest of the programs that it ran, in MiB; the CPU time of both.
void print_usage() {
  const auto mebibytes = [](int who) {
    rusage usage = {};
    getrusage(who, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024;
  };
  const auto seconds = [](int who) {
    rusage usage = {};
    getrusage(who, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  };
  fmt::print("{:.1f} {:.1f} {:.2f} {:.2f}\n", mebibytes(RUSAGE_SELF), mebibytes(RUSAGE_CHILDREN), seconds(RUSAGE_SELF),
             seconds(RUSAGE_CHILDREN));
}

struct Cost {
  double seconds = 0, own = 0, gnuplot = 0, own_cpu = 0, gnuplot_cpu = 0;
};

Cost report_in_a_process(const fs::path& sweep_db, const fs::path& out, bool figures) {
  const std::string result = (out.parent_path() / "usage.txt").string();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, result.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  std::vector<std::string> words = {"bench_report", "--report", sweep_db.string(), out.string(), figures ? "1" : "0"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const auto begin = Clock::now();
  pid_t child = 0;
  if (posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(), environ) != 0) std::abort();
  int status = 0;
  waitpid(child, &status, 0);
  Cost cost{.seconds = std::chrono::duration<double>(Clock::now() - begin).count()};
  posix_spawn_file_actions_destroy(&actions);
  if (status != 0) throw std::runtime_error("the report failed");
  std::ifstream(result) >> cost.own >> cost.gnuplot >> cost.own_cpu >> cost.gnuplot_cpu;
  fs::remove(result);
  return cost;
}

int run(std::int64_t runs, const std::vector<std::int64_t>& all_steps, const fs::path& folder) {
  fmt::print("{:>6} {:>8} {:>12} {:>9} {:>13} {:>9} {:>13} {:>10} {:>11} {:>8}\n", "runs", "steps", "database MiB",
             "report s", "tables only s", "own CPU s", "gnuplot CPU s", "memory MiB", "gnuplot MiB", "page MiB");
  for (const std::int64_t steps : all_steps) {
    const fs::path place = folder / fmt::format("{}x{}", runs, steps), file = place / "sweep.db";
    fs::create_directories(place);
    if (!fs::exists(file)) make_sweep(file, runs, steps);
    const Cost tables = report_in_a_process(file, place / "tables-only", false);
    const Cost whole = report_in_a_process(file, place / "report", true);
    const auto mebibytes = [](const fs::path& path) { return static_cast<double>(fs::file_size(path)) / (1 << 20); };
    fmt::print("{:>6} {:>8} {:>12.1f} {:>9.2f} {:>13.2f} {:>9.2f} {:>13.2f} {:>10.1f} {:>11.1f} {:>8.2f}\n", runs, steps,
               mebibytes(file), whole.seconds, tables.seconds, whole.own_cpu, whole.gnuplot_cpu, whole.own, whole.gnuplot,
               mebibytes(place / "report/index.html"));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace equisweep

int main(int argc, char** argv) {
  using namespace equisweep;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() == 4 && words[0] == "--report") {
    write_report(fs::path(words[1]), words[2], {.figures = words[3] == "1"});
    print_usage();
    return 0;
  }
  std::int64_t runs = 1000;
  std::vector<std::int64_t> steps = {1000, 10000};
  fs::path folder;
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) {
    if (words[i] == "--runs") runs = std::stoll(words[i + 1]);
    if (words[i] == "--folder") folder = words[i + 1];
    if (words[i] == "--steps") {
      steps.clear();
      std::stringstream list(words[i + 1]);
      for (std::string part; std::getline(list, part, ',');) steps.push_back(std::stoll(part));
    }
  }
  if (!folder.empty()) return run(runs, steps, folder);
  const TempFolder scratch;
  return run(runs, steps, scratch.path());
}
