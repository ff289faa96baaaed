// One event file a run: what changes with the step as scalars, the settings as text and as a row of the table of settings.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "analysis/export/event_file.h"
#include "analysis/export/formats.h"
#include "analysis/report/escape.h"
#include "core/database.h"
#include "core/document.h"
#include "core/error.h"
#include "core/run_state.h"

namespace equisweep {
namespace {

using Attempt = SweepReader::LiveAttempt;

/// A run with the first cell of the sweep that it fills.
struct ExportedRun {
  std::int64_t run = 0, parameters = 0, seed = 0;
  double lr_scale = 1;
  std::string job, state, message, config, model, stack, axes, phase;
  std::vector<Attempt> attempts = {};
};

std::vector<ExportedRun> exported_runs(const SweepReader& reader) {
  std::map<std::int64_t, std::vector<Attempt>> attempts;
  for (const Attempt& attempt : reader.attempts()) attempts[attempt.run].push_back(attempt);
  std::vector<ExportedRun> runs;
  in_database(reader.file(), [&] {
    SQLite::Statement query(reader.db(),
                            "SELECT r.run, r.job, r.state, r.message, r.config, r.parameters, c.model, c.stack, c.lr_scale, "
                            "c.seed, c.axes, c.phase FROM runs r JOIN cells c ON c.cell = (SELECT min(cell) FROM cells f "
                            "WHERE f.job = r.job AND f.retired = 0) ORDER BY r.run");
    while (query.executeStep()) {
      const auto text = [&](int column) { return query.getColumn(column).getString(); };
      ExportedRun run{.run = query.getColumn(0).getInt64(),
                      .parameters = query.getColumn(5).getInt64(),
                      .seed = query.getColumn(9).getInt64(),
                      .lr_scale = query.getColumn(8).getDouble(),
                      .job = text(1),
                      .state = text(2),
                      .message = text(3),
                      .config = text(4),
                      .model = text(6),
                      .stack = text(7),
                      .axes = text(10),
                      .phase = text(11)};
      const auto started = attempts.find(run.run);
      if (started == attempts.end()) continue;  // nothing has been measured
      run.attempts = started->second;
      runs.push_back(std::move(run));
    }
  });
  return runs;
}

/// A name for the folder of a run: distinct by its number, made of a-z, 0-9, '-', '_', '.' and '+' alone.
std::string folder_name(const ExportedRun& run) {
  std::string name = fmt::format("{:04}-{}-{}-lr{}", run.run, file_stem(run.model), file_stem(run.stack), run.lr_scale);
  if (const auto axes = document_of(run.axes); axes && axes->is_object())
    for (const auto& [path, value] : axes->items())
      if (name.size() < 150)
        name += "-" + file_stem(path + " " + (value.is_string() ? value.get<std::string>() : value.dump()));
  name += fmt::format("-seed{}", run.seed);
  return run.phase.empty() ? name : name + "-" + file_stem(run.phase);
}

std::vector<HyperParameter> settings_of(const ExportedRun& run) {
  std::vector<HyperParameter> settings = {{"model", visible(run.model, 200)},
                                          {"stack", visible(run.stack, 200)},
                                          {"lr_scale", run.lr_scale},
                                          {"seed", static_cast<double>(run.seed)}};
  if (!run.phase.empty()) settings.emplace_back("phase", visible(run.phase));
  if (const auto axes = document_of(run.axes); axes && axes->is_object())
    for (const auto& [path, value] : axes->items()) {
      if (value.is_number())
        settings.emplace_back(visible(path, 200), value.get<double>());
      else
        settings.emplace_back(visible(path, 200),
                              visible(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 200));
    }
  return settings;
}

EventFile::Ended ended(const ExportedRun& run) {
  const auto state = run_state_from_name(run.state);
  if (!state) return EventFile::Ended::unknown;
  if (*state == RunState::done) return EventFile::Ended::success;
  return *state == RunState::running || *state == RunState::queued || *state == RunState::preempted
             ? EventFile::Ended::running
             : EventFile::Ended::failure;
}

/// `text` as a block of code: lines with four spaces before them.
std::string code_block(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += "    " + visible(text.substr(0, end), 4096) + "\n";
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string config_text(const ExportedRun& run) {
  const auto document = document_of(run.config);
  const std::string config = document ? document->dump(2, ' ', false, nlohmann::json::error_handler_t::replace) : run.config;
  return code_block(fmt::format("job {}\nstate {}{}{}\nparameters {}\n\n{}", run.job, run.state,
                                run.message.empty() ? "" : ": ", visible(run.message, 4096), run.parameters, config));
}

/// When the steps of one attempt happened: its start, and the training time since. Evaluations take no time here.
class WallClock {
 public:
  WallClock(const Attempt& attempt, double seconds_before)
      : start_(static_cast<double>(attempt.started)), before_(seconds_before) {}
  double at(const RowValue& seconds) const {
    const auto* value = std::get_if<double>(&seconds);
    return value != nullptr && std::isfinite(*value) ? start_ + (*value - before_) : start_;
  }

 private:
  double start_, before_;
};

/// How the rows of a table become scalars: the tag of a column is `before` + column + `after`, where {name}, {layer}, ...
/// stand for columns of the row.
struct ScalarTable {
  const char *table, *before, *after;
};

constexpr ScalarTable kScalarTables[] = {{"logit_stats", "logits/", ""},
                                         {"block_stats", "", "/{name}"},
                                         {"equivariance", "equivariance_", "/{name} {group}"},
                                         {"router_stats", "router_", "/layer {layer}"},
                                         {"attention_stats", "attention_", "/layer {layer} head {head}"}};

std::string key_text(const RowValue& value) {
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *whole);
  if (const auto* text = std::get_if<std::string_view>(&value)) return visible(*text, 200);
  return "?";
}

/// `pattern` with {column} replaced by the value of the row.
std::string filled(std::string_view pattern, const std::map<std::string, std::size_t, std::less<>>& index,
                   std::span<const RowValue> row) {
  std::string out;
  while (!pattern.empty()) {
    const std::size_t open = std::min(pattern.find('{'), pattern.size());
    out += pattern.substr(0, open);
    pattern.remove_prefix(open);
    if (pattern.empty()) break;
    const std::size_t close = pattern.find('}');
    out += key_text(row[index.at(std::string(pattern.substr(1, close - 1)))]);
    pattern.remove_prefix(close + 1);
  }
  return out;
}

class RunWriter {
 public:
  RunWriter(const SweepReader& reader, const ExportedRun& run, EventFile& file, ExportMeter& meter)
      : reader_(reader), run_(run), file_(file), meter_(meter) {}

  void write() {
    write_steps();
    write_evaluations();
    for (const ScalarTable& table : kScalarTables) write_table(table);
  }

 private:
  void add(const std::string& tag, const RowValue& value) {
    if (const auto* real = std::get_if<double>(&value)) scalars_.push_back({tag, *real});
  }
  void put(double wall_time, const RowValue& step) {
    const auto* number = std::get_if<std::int64_t>(&step);
    if (number == nullptr) throw DatabaseError(reader_.file().string(), "has a step that is no number; move it away");
    file_.scalars(wall_time, *number, scalars_);
    scalars_.clear();
    meter_.row();
  }
  static std::size_t position(const TableInfo& table, std::string_view column) {
    std::size_t c = 0;
    while (table.columns.at(c).name != column) ++c;
    return c;
  }

  void write_steps() {
    const TableInfo& table = reader_.table("steps");
    const std::size_t step = position(table, "step"), seconds = position(table, "seconds");
    double last = 0;
    for (const Attempt& attempt : run_.attempts) {
      const WallClock& clock = clocks_.emplace(attempt.attempt, WallClock(attempt, last)).first->second;
      reader_.each_row(table, attempt, [&](std::span<const RowValue> row) {
        if (const auto* value = std::get_if<double>(&row[seconds]); value != nullptr && std::isfinite(*value)) last = *value;
        for (std::size_t c = 0; c < row.size(); ++c) {
          const std::string& name = table.columns[c].name;
          if (table.columns[c].type == "REAL")
            add((name == "loss" || name == "lr" || name == "grad_norm" ? "train/" : "time/") + name, row[c]);
        }
        put(clock.at(row[seconds]), row[step]);
      });
    }
  }

  void write_evaluations() {
    const TableInfo& table = reader_.table("evals");
    const std::size_t step = position(table, "step"), seconds = position(table, "seconds");
    reader_.each_evaluation(table, run_.run, [&](std::span<const RowValue> row) {
      for (std::size_t c = 0; c + 1 < row.size(); ++c)
        if (table.columns[c].type == "REAL" && c != seconds) add("eval/" + table.columns[c].name, row[c]);
      put(clocks_.at(std::get<std::int64_t>(row.back())).at(row[seconds]), row[step]);
    });
  }

  void write_table(const ScalarTable& tags) {
    const TableInfo& table = reader_.table(tags.table);
    const bool named = table.has("block");
    std::vector<std::string> extra = {"s.seconds"};
    std::string join = "LEFT JOIN steps s ON s.run = t.run AND s.attempt = t.attempt AND s.step = t.step";
    std::map<std::string, std::size_t, std::less<>> index;
    for (std::size_t c = 0; c < table.columns.size(); ++c) index.emplace(table.columns[c].name, c);
    const std::size_t step = index.at("step"), seconds = table.columns.size();
    if (named) {
      extra.push_back("coalesce(b.name, 'block ' || t.block)");
      join += " LEFT JOIN blocks b ON b.run = t.run AND b.block = t.block";
      index.insert_or_assign("name", seconds + 1);
    }
    for (const Attempt& attempt : run_.attempts)
      reader_.each_row(
          table, attempt,
          [&](std::span<const RowValue> row) {
            const std::string after = filled(tags.after, index, row);
            for (std::size_t c = 0; c < seconds; ++c)
              if (table.columns[c].type == "REAL") add(tags.before + table.columns[c].name + after, row[c]);
            put(clocks_.at(attempt.attempt).at(row[seconds]), row[step]);
          },
          extra, join);
  }

  const SweepReader& reader_;
  const ExportedRun& run_;
  EventFile& file_;
  ExportMeter& meter_;
  std::map<std::int64_t, WallClock> clocks_;  // by attempt
  std::vector<EventFile::Scalar> scalars_;
};

}  // namespace

void export_tensorboard(const SweepReader& reader, const std::filesystem::path& folder, ExportMeter& meter) {
  const std::vector<ExportedRun> runs = exported_runs(reader);
  std::string index = fmt::format("folder,run,job,state,model,stack,lr_scale,seed{}", kCsvLineEnd);
  std::size_t number = 0;
  for (const ExportedRun& run : runs) {
    meter.begin(fmt::format("run {} of {}", ++number, runs.size()));
    const std::string name = folder_name(run);
    const std::int64_t started = run.attempts.front().started;
    std::filesystem::create_directory(folder / name);
    EventFile file(folder / name / fmt::format("events.out.tfevents.{:010}.equisweep", started),
                   static_cast<double>(started), meter);
    file.settings(static_cast<double>(started), settings_of(run), ended(run));
    file.text(static_cast<double>(started), "config", config_text(run));
    RunWriter(reader, run, file, meter).write();
    file.close();
    index += fmt::format("{},{},{},{},{},{},{},{}{}", name, run.run, csv_field(run.job), csv_field(run.state),
                         csv_field(run.model), csv_field(run.stack), run.lr_scale, run.seed, kCsvLineEnd);
  }
  ExportFile file(folder / "runs.csv", meter);
  file.append(index);
  file.close();
}

}  // namespace equisweep
