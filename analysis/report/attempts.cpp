#include "analysis/report/attempts.h"

#include <SQLiteCpp/SQLiteCpp.h>

#include "core/document.h"

namespace equisweep {
namespace {

std::optional<std::int64_t> whole(const SQLite::Column& column) {
  if (column.isNull()) return std::nullopt;
  return column.getInt64();
}

}  // namespace

std::vector<AttemptRecord> attempts_of(const ReportData& data, const RunRecord& run) {
  SQLite::Statement query(data.db(run),
                          "SELECT attempt, resume_step, threads, state, message, device, peak_rss_bytes, state_bytes, "
                          "environment FROM attempts WHERE run = ? ORDER BY attempt");
  query.bind(1, run.run);
  std::vector<AttemptRecord> out;
  while (query.executeStep()) {
    AttemptRecord a{.attempt = query.getColumn(0).getInt64(),
                    .resume_step = query.getColumn(1).getInt64(),
                    .threads = query.getColumn(2).getInt64(),
                    .state = query.getColumn(3).getString(),
                    .message = query.getColumn(4).getString(),
                    .device = query.getColumn(5).getString(),
                    .peak_rss_bytes = whole(query.getColumn(6)),
                    .state_bytes = whole(query.getColumn(7)),
                    .environment = object_of(query.getColumn(8).getString())};
    out.push_back(std::move(a));
  }
  return out;
}

StepSums step_sums(const ReportData& data, const RunRecord& run) {
  StepSums sums;
  data.visit(run,
             std::string("SELECT count(*), total(step_seconds), total(optimizer_seconds), total(diagnostics_seconds) FROM "
                         "steps") +
                 kLiveRows,
             [&](SQLite::Statement& row) {
               sums.steps += row.getColumn(0).getInt64();
               sums.step_seconds += row.getColumn(1).getDouble();
               sums.optimizer_seconds += row.getColumn(2).getDouble();
               sums.diagnostics_seconds += row.getColumn(3).getDouble();
             });
  return sums;
}

bool has_step_times(const ReportData& data, const RunRecord& run) {
  bool any = false;
  data.visit(run, std::string("SELECT 1 FROM steps") + kLiveRows + "AND step_seconds > 0 AND optimizer_seconds > 0 LIMIT 1",
             [&](SQLite::Statement&) { any = true; });
  return any;
}

std::optional<LastStep> last_step(const ReportData& data, const RunRecord& run) {
  std::optional<LastStep> last;  // that of the newest attempt, which comes last
  data.visit(run, std::string("SELECT step, loss FROM steps") + kLiveRows + "ORDER BY step DESC LIMIT 1",
             [&](SQLite::Statement& row) {
               last = LastStep{row.getColumn(0).getInt64(), row.getColumn(1).isNull() ? kNan : row.getColumn(1).getDouble()};
             });
  return last;
}

double batch_tokens(const RunRecord& run) {
  const auto part = run.config.find("data");
  if (part == run.config.end() || !part->is_object()) return 0;
  const auto tokens = part->find("batch_tokens");
  return tokens != part->end() && tokens->is_number() ? tokens->get<double>() : 0;
}

}  // namespace equisweep
