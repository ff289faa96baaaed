#include "tests/support/sweep_fixture.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/database.h"

namespace equisweep::testing {
namespace {

template <typename... Values>
void insert(SQLite::Database& db, const std::string& sql, const Values&... values) {
  SQLite::Statement statement(db, sql);
  int index = 0;
  (statement.bind(++index, values), ...);
  statement.exec();
}

// Smooth made-up noise in [-1, 1], the same everywhere.
double wobble(double a, double b, double c) { return std::sin(12.9898 * a + 78.233 * b + 37.719 * c); }

void add_spectra(SQLite::Database& db, std::int64_t run, const FixtureRun& r) {
  constexpr std::array roles = {"embedding", "attention_q", "attention_k", "attention_v", "attention_o",
                                "mlp_gate",  "mlp_up",      "mlp_down",    "lm_head"};
  std::int64_t block = 0;
  for (std::size_t role = 0; role < roles.size(); ++role) {
    const bool outside = role == 0 || role + 1 == roles.size();
    for (std::int64_t layer = outside ? -1 : 0; layer < (outside ? 0 : 2); ++layer, ++block) {
      insert(db, "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, '[64,64]', 'default', 'adamw')", run, block,
             fmt::format("w{}", block), std::string(roles[role]), layer);
      for (std::int64_t step = 0; step <= 300; step += 10) {
        const double growth = (r.stack == "adamw" ? 0.012 : 0.006) * r.lr_scale * static_cast<double>(step);
        const double norm =
            (0.5 + 0.1 * static_cast<double>(role) + 0.2 * static_cast<double>(layer)) * (1 + growth) +
            0.01 * wobble(static_cast<double>(step), static_cast<double>(block), static_cast<double>(r.seed));
        insert(db, "INSERT INTO block_stats VALUES (?, 1, ?, ?, ?, 8.0, 0.01, 0.002, 0.1, 0.003, 0)", run,
               std::max<std::int64_t>(step, 1), block, norm);
      }
    }
  }
}

}  // namespace

void write_sweep(const std::filesystem::path& path, const FixtureSweep& sweep) {
  const auto db = open_writable(path);
  SQLite::Transaction transaction(*db);
  for (const auto& [key, value] : sweep.meta) insert(*db, "INSERT INTO meta VALUES (?, ?)", key, value);
  std::int64_t number = 0;
  for (const FixtureRun& r : sweep.runs) {
    const std::string job = fmt::format("{:016x}", 0xe9150000 + ++number);
    const nlohmann::json config = {{"data", {{"corpus", "kjv"}, {"batch_tokens", 100}, {"seq_len", 50}}},
                                   {"train", {{"steps", 300}, {"precision", "fp32"}}},
                                   {"stack",
                                    {{"default", {{"rule", "adamw"}, {"lr", 0.003 * r.lr_scale}}},
                                     {"matrix", {{"rule", "muon"}, {"lr", 0.02 * r.lr_scale}}}}}};
    insert(*db,
           "INSERT INTO runs (run, job, config, state, message, attempt, parameters, corpus) VALUES (?, ?, ?, ?, ?, 1, "
           "188864, ?)",
           number, job, config.dump(), r.state, r.message, sweep.corpus);
    insert(
        *db,
        "INSERT INTO cells (cell, job, model, stack, baseline, lr_scale, seed, axes, phase) VALUES (?, ?, ?, ?, ?, ?, ?, ?, "
        "?)",
        number, job, r.model, r.stack, r.baseline ? 1 : 0, r.lr_scale, r.seed, r.axes, r.phase);
    if (r.state == "queued") continue;
    insert(*db,
           "INSERT INTO attempts (run, attempt, resume_step, state, started_at, device, threads, environment) VALUES (?, 1, "
           "0, ?, '2026-01-01T00:00:00Z', 'cpu', 2, ?)",
           number, r.state, std::string(R"({"version":"0.1.0","libtorch":"2.13.0","cpu":"made up"})"));
    for (const auto& [step, loss] : r.evals) {
      SQLite::Statement row(*db,
                            "INSERT INTO evals (run, attempt, step, tokens, seconds, loss, eval_tokens, nonfinite) VALUES "
                            "(?, 1, ?, ?, ?, ?, 1000, ?)");
      row.bind(1, number), row.bind(2, step), row.bind(3, step * 100),
          row.bind(4, static_cast<double>(step) * r.step_seconds);
      if (std::isnan(loss)) {
        row.bind(5);
      } else {
        row.bind(5, loss);
      }
      row.bind(6, std::isnan(loss) ? 2 : 0);
      row.exec();
    }
    if (r.spectra) add_spectra(*db, number, r);
  }
  transaction.commit();
}

void add_attempt(const std::filesystem::path& path, std::int64_t run, std::int64_t attempt, std::int64_t resume_step,
                 const std::vector<std::pair<std::int64_t, double>>& evals) {
  const auto db = open_writable(path);
  insert(
      *db,
      "INSERT INTO attempts (run, attempt, resume_step, state, started_at) VALUES (?, ?, ?, 'done', '2026-01-01T00:00:00Z')",
      run, attempt, resume_step);
  for (const auto& [step, loss] : evals) {
    insert(*db, "INSERT INTO evals (run, attempt, step, tokens, seconds, loss, eval_tokens) VALUES (?, ?, ?, ?, ?, ?, 1000)",
           run, attempt, step, step * 100, 0.01 * static_cast<double>(step), loss);
  }
}

void change_sweep(const std::filesystem::path& path, const std::string& sql) { open_writable(path)->exec(sql); }

FixtureSweep realistic_sweep(int seeds) {
  struct Stack {
    const char* name;
    double final_loss, optimum, speed;
  };
  constexpr std::array stacks = {Stack{"adamw", 3.62, 0.0, 0.010}, Stack{"muon-adamw", 3.47, 0.0, 0.0115},
                                 Stack{"muon-row-norm", 3.615, -1.0, 0.0110}};
  FixtureSweep sweep;
  sweep.meta = {{"name", "first-light"},
                {"notes", "does muon beat a tuned adamw on the King James Bible?"},
                {"program", "equisweep 0.1.0"},
                {"sweep_file",
                 "version: 1\nname: first-light\ndata: {corpus: kjv, seq_len: 128}\ngrid:\n  model: [qwen3-nano]\n  "
                 "lr_scale: [0.5, 1, 2]\n"}};
  sweep.corpus =
      R"({"name":"kjv","path":"cache/kjv-512","vocabulary":512,"train_tokens":1482331,"val_tokens":52113,"unigram_entropy":5.5312,"bytes_per_token":2.61,"digest":"0f1e"})";
  for (const Stack& stack : stacks) {
    for (const double scale : {0.5, 1.0, 2.0, 4.0}) {
      for (int seed = 0; seed < seeds; ++seed) {
        FixtureRun run{.model = "qwen3-nano",
                       .stack = stack.name,
                       .baseline = stack.name == std::string("adamw"),
                       .lr_scale = scale,
                       .seed = seed,
                       .evals = {},
                       .step_seconds = stack.speed,
                       .spectra = true};
        const double away = std::log2(scale) - stack.optimum;
        const double last = stack.final_loss + 0.05 * away * away + 0.008 * wobble(seed, 1, 0) +
                            0.004 * wobble(seed, scale, stack.final_loss);
        const bool diverges = scale == 4 && stack.optimum < 0 && seed == 1;
        for (std::int64_t step = 0; step <= (diverges ? 100 : 300); step += 25) {
          const double t = static_cast<double>(step) / 300;
          run.evals.emplace_back(step, last + (6.24 - last) * std::exp(-4.5 * t) * (1 - t) +
                                           0.01 * wobble(static_cast<double>(step), seed, scale) * t * (1 - t));
        }
        if (diverges) run.state = "diverged", run.message = "loss is not finite at step 117";
        sweep.runs.push_back(std::move(run));
      }
    }
  }
  return sweep;
}

}  // namespace equisweep::testing
