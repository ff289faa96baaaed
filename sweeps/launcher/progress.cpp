#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "sweeps/launcher/launcher.h"

namespace equisweep {

std::optional<Progress> parse_progress(std::string_view line) {
  const nlohmann::json fields = nlohmann::json::parse(line, nullptr, false);
  if (!fields.is_object()) return std::nullopt;
  const auto count = [&](const char* key) -> std::int64_t {
    const auto it = fields.find(key);
    if (it == fields.end() || !it->is_number_integer()) return 0;
    if (it->is_number_unsigned() && it->get<std::uint64_t>() > std::uint64_t{INT64_MAX}) return 0;
    return std::max<std::int64_t>(0, it->get<std::int64_t>());
  };
  const auto real = [&](const char* key) -> std::optional<double> {
    const auto it = fields.find(key);
    if (it == fields.end() || !it->is_number() || !std::isfinite(it->get<double>())) return std::nullopt;
    return it->get<double>();
  };
  Progress p{.step = count("step"),
             .steps = count("steps"),
             .loss = real("loss"),
             .tokens_per_second = std::max(0.0, real("tokens_per_second").value_or(0))};
  if (const auto it = fields.find("phase"); it != fields.end() && it->is_string())
    p.phase = printable(it->get<std::string>(), 20);
  return p;
}

std::string to_string(const WorkerExit& exit) { return fmt::format("{} {}", exit.signalled ? "signal" : "exit", exit.code); }

}  // namespace equisweep
