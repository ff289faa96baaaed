#include "sweeps/estimate.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/run_store.h"
#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "sweeps/job.h"

namespace equisweep {

using nlohmann::json;

namespace {

/// Runs of a sweep that are looked at, the newest first: enough for a mean.
constexpr int kRunsOfASweep = 200;

std::string kind_of_job(const std::string& model, const std::string& precision, bool recompute, const std::string& kernels,
                        const std::string& device) {
  return fmt::format("{} {} {} {} {}", model, precision, recompute ? 1 : 0, kernels, device.substr(0, device.find(':')));
}

std::string kind_of_job(const json& config, const std::string& device) {
  const json& train = config.at("train");
  return kind_of_job(canonical(config.at("model")), train.at("precision"), train.value("recompute", false),
                     train.value("kernels", "fused"), device);
}

double activations_of(const json& config) {
  const json& model = config.at("model");
  const auto number = [&](const char* key) { return model.value(key, 0.0); };
  const std::string precision = config.at("train").at("precision");
  const double bytes = precision == "bf16" ? 2 : precision == "fp64" ? 8 : 4;
  const double d = number("d"), layers = number("layers"), heads = number("head_dim") * number("heads"),
               keys = number("head_dim") * number("kv_heads"),
               width = model.contains("experts") ? number("top_k") * number("expert_ff") : number("ff");
  const double layer = 5 * d + 3 * heads + 4 * keys + 4 * width;
  const double kept = config.at("train").value("recompute", false) ? layer + 2 * d * layers : layer * layers;
  return config.at("data").at("batch_tokens").get<double>() * (kept * bytes + 12 * number("vocab"));
}

}  // namespace

MemoryEstimate estimate_memory(const json& config, ModelSizes& known) {
  const double bytes = config.at("train").at("precision") == "fp64" ? 8 : 4;
  const auto [numbers, fresh] = known.try_emplace(canonical(config.at("model")));
  if (fresh)
    for (const Param& p : describe_params(config.at("model")))
      numbers->second[p.role] += static_cast<double>(p.tensor.numel());
  std::vector<Role> roles;
  for (const auto& [role, count] : numbers->second) roles.push_back(role);
  MemoryEstimate memory{.activations = activations_of(config), .process = kProcessBytes};
  for (const auto& [role, entry] : assign_roles(config.at("stack"), roles)) {
    const double own = numbers->second.at(role) * bytes;
    memory.weights += own;
    memory.state += own * static_cast<double>(make_rule(config.at("stack").at(entry))->slots().size());
  }
  memory.gradients = memory.weights;
  return memory;
}

std::int64_t evaluation_tokens(const json& config) {
  const json &train = config.at("train"), &eval = train.at("eval");
  const std::int64_t steps = train.at("steps"), every = eval.at("every");
  return (1 + steps / every + (steps % every != 0 ? 1 : 0)) * eval.at("tokens").get<std::int64_t>();
}

double estimate_seconds(const json& config, const Measurements::Speed& speed) {
  const double tokens = config.at("train").at("steps").get<double>() * config.at("data").at("batch_tokens").get<double>();
  return (tokens + static_cast<double>(evaluation_tokens(config)) / 3) / speed.tokens_per_second;
}

Measurements::Measurements(const std::filesystem::path& results, const std::string& host, const std::string& cpu) {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(results, none)) {
    if (!std::filesystem::is_regular_file(entry.path() / "sweep.db", none)) continue;
    try {
      const auto db = open_read_only(entry.path() / "sweep.db");
      SQLite::Statement query(
          *db,
          "SELECT json_extract(r.config, '$.model'), json_extract(r.config, '$.train.precision'), "
          "  coalesce(json_extract(r.config, '$.train.recompute'), 0), a.device, a.threads, "
          "  coalesce(json_extract(r.config, '$.train.kernels'), 'fused'), "
          "  json_extract(r.config, '$.data.batch_tokens'), s.tokens / s.seconds, coalesce(a.peak_rss_bytes, 0) "
          "FROM runs r JOIN attempts a ON a.run = r.run AND a.attempt = r.attempt "
          "JOIN steps s ON s.run = a.run AND s.attempt = a.attempt "
          "WHERE r.state = 'done' AND a.resume_step = 0 AND s.seconds > 0 "
          "  AND json_extract(a.environment, '$.host') = ? AND json_extract(a.environment, '$.cpu') = ? "
          "  AND s.step = (SELECT max(t.step) FROM steps t WHERE t.run = a.run AND t.attempt = a.attempt) "
          "ORDER BY r.run DESC LIMIT ?");
      query.bind(1, host);
      query.bind(2, cpu);
      query.bind(3, kRunsOfASweep);
      while (query.executeStep())
        rows_.push_back({.kind = kind_of_job(query.getColumn(0).getString(), query.getColumn(1).getString(),
                                             query.getColumn(2).getInt() != 0, query.getColumn(5).getString(),
                                             query.getColumn(3).getString()),
                         .threads = query.getColumn(4).getInt64(),
                         .batch_tokens = query.getColumn(6).getInt64(),
                         .tokens_per_second = query.getColumn(7).getDouble(),
                         .peak_bytes = query.getColumn(8).getDouble()});
    } catch (const SQLite::Exception&) {  // an estimate is worth no error: what cannot be read is not counted
    } catch (const DatabaseError&) {
    }
  }
}

std::optional<Measurements::Speed> Measurements::speed(const json& config, const std::string& device, int threads) const {
  const std::string kind = kind_of_job(config, device);
  std::optional<std::int64_t> nearest;
  for (const Row& row : rows_)
    if (row.kind == kind && (!nearest || std::abs(row.threads - threads) < std::abs(*nearest - threads)))
      nearest = row.threads;
  if (!nearest) return std::nullopt;
  Speed speed{.threads = static_cast<int>(*nearest)};
  double seconds_a_token = 0;
  for (const Row& row : rows_)
    if (row.kind == kind && row.threads == *nearest) {
      ++speed.jobs;
      seconds_a_token += 1 / row.tokens_per_second;
    }
  speed.tokens_per_second = static_cast<double>(speed.jobs) / seconds_a_token;
  return speed;
}

std::optional<Measurements::Memory> Measurements::memory(const json& config, const std::string& device) const {
  const std::string kind = kind_of_job(config, device);
  Memory memory;
  for (const Row& row : rows_)
    if (row.kind == kind && row.peak_bytes > 0 && row.batch_tokens == config.at("data").at("batch_tokens")) {
      ++memory.jobs;
      memory.peak_bytes += row.peak_bytes;
    }
  if (memory.jobs == 0) return std::nullopt;
  memory.peak_bytes /= static_cast<double>(memory.jobs);
  return memory;
}

}  // namespace equisweep
