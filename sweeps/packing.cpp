#include "sweeps/packing.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/database.h"
#include "core/document.h"
#include "core/error.h"
#include "core/median.h"
#include "core/scratch_folder.h"
#include "sweeps/file/spec.h"
#include "sweeps/plan.h"
#include "sweeps/supervisor.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

constexpr int kBatchTokens = 4096;
constexpr int kWarmUpSteps = 3;

/// Hears the supervisor and says nothing.
class NoTerminal : public Terminal {
 public:
  bool live() const override { return false; }
  bool colors() const override { return false; }
  int width() const override { return 80; }
  int height() const override { return 24; }
  void write(std::string_view) override {}
};

SweepSpec measurement(const std::string& model, const Packing& packing, int round, int steps) {
  std::string seeds;
  for (int seed = 0; seed < packing.jobs; ++seed) seeds += fmt::format("{}{}", seed == 0 ? "" : ", ", seed);
  return read_sweep(fmt::format("version: 1\n"
                                "name: packing-{}x{}-{}\n"
                                "data: {{corpus: synthetic, seq_len: 128, batch_tokens: {}}}\n"
                                "train: {{steps: {}, precision: bf16, eval: {{every: {}, tokens: {}}}}}\n"
                                "grid: {{model: {}, seed: [{}]}}\n"
                                "stacks: {{adamw: {{baseline: true, default: {{rule: adamw, lr: 1e-3}}}}}}\n",
                                packing.jobs, packing.threads, round, kBatchTokens, steps, steps, kBatchTokens,
                                nlohmann::json(model).dump(), seeds),
                    "what `doctor --tune` trains");
}

/// Tokens per second of all runs of a sweep together.
double speed_of(const fs::path& sweep_db) {
  const auto db = open_read_only(sweep_db);
  return in_database(sweep_db, [&] {
    std::map<std::int64_t, std::vector<double>> seconds;
    SQLite::Statement query(*db, "SELECT run, step_seconds FROM steps WHERE step > ?");
    query.bind(1, kWarmUpSteps);
    while (query.executeStep()) seconds[query.getColumn(0).getInt64()].push_back(query.getColumn(1).getDouble());
    double speed = 0;
    for (const auto& [run, times] : seconds) speed += kBatchTokens / median(times);
    return speed;
  });
}

double speed_in(const Packing& packing, const SweepSpec& spec, const fs::path& results, Launcher& launcher,
                const Interrupts& interrupts) {
  RunOptions options;
  options.results = results;
  options.devices = {{.name = "cpu", .visible = "", .slots = packing.jobs, .threads = packing.threads}};
  NoTerminal terminal;
  const ExitCode code = run_sweep(spec.name, expand(spec), options, {launcher, terminal, interrupts, steady_seconds});
  const fs::path file = sweep_folder(results, spec.name) / "sweep.db";
  if (code == ExitCode::some_failed) {
    const auto db = open_read_only(file);
    const std::string message = in_database(file, [&] {
      SQLite::Statement query(*db, "SELECT message FROM runs WHERE state <> 'done' ORDER BY run LIMIT 1");
      return query.executeStep() ? query.getColumn(0).getString() : std::string();
    });
    throw Error(fmt::format("{} jobs with {} threads each: {}", packing.jobs, packing.threads, printable(message)));
  }
  if (code != ExitCode::ok) throw Error("stopped before everything was measured; nothing was written", code);
  return speed_of(file);
}

[[noreturn]] void refuse(const fs::path& file, const std::string& why) {
  throw Error(fmt::format("{}: {}; remove it, or measure again with `equisweep doctor --tune`", file.string(), why));
}

std::int64_t count_at(const nlohmann::json& entry, const char* key, std::int64_t most) {
  const nlohmann::json& value = entry.at(key);
  if (!value.is_number_integer() || value < 1 || value > most)
    throw std::out_of_range(fmt::format("{} is no whole number from 1 to {}", key, most));
  return value.get<std::int64_t>();
}

double speed_at(const nlohmann::json& entry, const char* key) {
  const double value = entry.at(key).get<double>();
  if (!(value > 0)) throw std::out_of_range(fmt::format("{} is not positive", key));
  return value;
}

constexpr std::int64_t kMostCores = 1 << 16;

Packing packing_from(const nlohmann::json& entry) {
  return {.jobs = static_cast<int>(count_at(entry, "jobs", kMostCores)),
          .threads = static_cast<int>(count_at(entry, "threads", kMostCores)),
          .tokens_per_second = speed_at(entry, "tokens_per_second"),
          .lowest = speed_at(entry, "lowest"),
          .highest = speed_at(entry, "highest")};
}

}  // namespace

const Packing& ModelPackings::best() const {
  return *std::max_element(packings.begin(), packings.end(), [](const Packing& a, const Packing& b) {
    return std::pair(a.tokens_per_second, a.jobs) < std::pair(b.tokens_per_second, b.jobs);
  });
}

std::vector<Packing> packings_to_try(int cores) {
  std::vector<Packing> out;
  for (int jobs = std::max(cores, 1); jobs >= 1; jobs /= 2)
    out.push_back({.jobs = jobs, .threads = std::max(cores, 1) / jobs});
  return out;
}

ModelPackings measure_packings(const std::string& model, int cores, int rounds, int steps, Launcher& launcher,
                               const Interrupts& interrupts, const std::function<void(const std::string&)>& progress) {
  ModelPackings result{.model = model, .packings = packings_to_try(cores)};
  const ScratchFolder scratch("equisweep-packing-");
  std::vector<std::vector<double>> speeds(result.packings.size());
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t turn = 0; turn < speeds.size(); ++turn) {
      const std::size_t i = round % 2 == 0 ? turn : speeds.size() - 1 - turn;
      const Packing& packing = result.packings[i];
      const SweepSpec spec = measurement(model, packing, round, steps);
      result.parameters = spec.models.front().parameters;
      speeds[i].push_back(speed_in(packing, spec, scratch.path(), launcher, interrupts));
      progress(fmt::format("{}: round {} of {}, {} x {}: {:.0f} tokens/s", model, round + 1, rounds, packing.jobs,
                           packing.threads, speeds[i].back()));
    }
  }
  for (std::size_t i = 0; i < speeds.size(); ++i) {
    const auto [low, high] = std::minmax_element(speeds[i].begin(), speeds[i].end());
    result.packings[i].lowest = *low;
    result.packings[i].highest = *high;
    result.packings[i].tokens_per_second = median(speeds[i]);
  }
  return result;
}

MachinePackings with_packings(std::optional<MachinePackings> known, const MachinePackings& found) {
  if (!known || known->cpu != found.cpu || known->cores != found.cores) return found;
  for (const ModelPackings& model : found.models) {
    std::erase_if(known->models, [&](const ModelPackings& old) { return old.model == model.model; });
    known->models.push_back(model);
  }
  std::sort(known->models.begin(), known->models.end(), [](const ModelPackings& a, const ModelPackings& b) {
    return std::pair(a.parameters, a.model) < std::pair(b.parameters, b.model);
  });
  return *known;
}

std::optional<MachinePackings> read_packings(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    if (std::error_code error; !fs::exists(file, error) && !error) return std::nullopt;
    refuse(file, "cannot be read");
  }
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto document = document_of(text);
  if (!document) refuse(file, "is no JSON, or nested more than 64 deep");
  try {
    const nlohmann::json& root = *document;
    MachinePackings result{.cpu = root.at("cpu").get<std::string>(),
                           .cores = static_cast<int>(count_at(root, "cores", kMostCores))};
    for (const nlohmann::json& entry : root.at("models")) {
      ModelPackings model{.model = entry.at("model").get<std::string>(),
                          .parameters = count_at(entry, "parameters", INT64_MAX)};
      for (const nlohmann::json& packing : entry.at("packings")) model.packings.push_back(packing_from(packing));
      if (model.packings.empty()) throw std::out_of_range("a model without packings");
      result.models.push_back(std::move(model));
    }
    return result;
  } catch (const nlohmann::json::exception& e) {
    refuse(file, printable(e.what()));
  } catch (const std::out_of_range& e) {
    refuse(file, e.what());
  }
}

void write_packings(const fs::path& file, const MachinePackings& packings) {
  nlohmann::json models = nlohmann::json::array();
  for (const ModelPackings& model : packings.models) {
    nlohmann::json list = nlohmann::json::array();
    for (const Packing& p : model.packings)
      list.push_back({{"jobs", p.jobs},
                      {"threads", p.threads},
                      {"tokens_per_second", p.tokens_per_second},
                      {"lowest", p.lowest},
                      {"highest", p.highest}});
    models.push_back({{"model", model.model}, {"parameters", model.parameters}, {"packings", list}});
  }
  const nlohmann::json root = {{"cpu", packings.cpu}, {"cores", packings.cores}, {"models", models}};
  fs::create_directories(file.parent_path());
  write_file_atomically(file, root.dump(2) + "\n");
}

std::optional<int> jobs_at_a_time(const std::optional<MachinePackings>& known, const std::string& cpu, int cores,
                                  std::int64_t parameters) {
  if (!known || known->cpu != cpu || known->cores != cores || known->models.empty()) return std::nullopt;
  const auto distance = [&](const ModelPackings& m) {
    return std::abs(
        std::log(static_cast<double>(m.parameters) / static_cast<double>(std::max<std::int64_t>(parameters, 1))));
  };
  return std::min_element(known->models.begin(), known->models.end(),
                          [&](const ModelPackings& a, const ModelPackings& b) { return distance(a) < distance(b); })
      ->best()
      .jobs;
}

}  // namespace equisweep
