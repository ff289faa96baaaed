#include "analysis/report/attempts.h"

#include <SQLiteCpp/SQLiteCpp.h>

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
                    .environment = nlohmann::json::parse(query.getColumn(8).getString(), nullptr, false)};
    if (!a.environment.is_object()) a.environment = nlohmann::json::object();
    out.push_back(std::move(a));
  }
  return out;
}

StepSums step_sums(const ReportData& data, const RunRecord& run) {
  SQLite::Statement query(data.db(run),
                          "SELECT count(*), total(step_seconds), total(optimizer_seconds), total(diagnostics_seconds) "
                          "FROM loss_curve WHERE run = ?");
  query.bind(1, run.run);
  query.executeStep();
  return {query.getColumn(0).getInt64(), query.getColumn(1).getDouble(), query.getColumn(2).getDouble(),
          query.getColumn(3).getDouble()};
}

bool has_step_times(const ReportData& data, const RunRecord& run) {
  SQLite::Statement query(data.db(run),
                          "SELECT 1 FROM loss_curve WHERE run = ? AND step_seconds > 0 AND optimizer_seconds > 0 LIMIT 1");
  query.bind(1, run.run);
  return query.executeStep();
}

std::optional<LastStep> last_step(const ReportData& data, const RunRecord& run) {
  SQLite::Statement query(data.db(run),
                          "SELECT step, loss FROM loss_curve WHERE run = ? ORDER BY attempt DESC, step DESC LIMIT 1");
  query.bind(1, run.run);
  if (!query.executeStep()) return std::nullopt;
  return LastStep{query.getColumn(0).getInt64(), query.getColumn(1).isNull() ? kNan : query.getColumn(1).getDouble()};
}

double batch_tokens(const RunRecord& run) {
  const auto part = run.config.find("data");
  if (part == run.config.end() || !part->is_object()) return 0;
  const auto tokens = part->find("batch_tokens");
  return tokens != part->end() && tokens->is_number() ? tokens->get<double>() : 0;
}

}  // namespace equisweep
