#include "optimizers/schedule.h"

#include <fmt/format.h>
#include <cassert>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/error.h"

namespace equisweep {

std::span<const Field> schedule_fields() {
  static const std::vector<Field> fields = {
      {.name = "type",
       .kind = FieldKind::choice,
       .default_json = "\"constant\"",
       .doc = "shape of the factor that multiplies every learning rate",
       .choices = {"constant", "linear", "cosine", "wsd"}},
      {.name = "warmup",
       .kind = FieldKind::integer,
       .default_json = "0",
       .doc = "steps of linear warm-up from 0; the factor is 1 at step `warmup`",
       .min = 0,
       .max = 1e12},
      {.name = "decay",
       .kind = FieldKind::number,
       .default_json = "null",
       .doc = "wsd only, required there: share of the horizon over which the factor falls linearly to `final`",
       .min = 0,
       .max = 1,
       .above_min = true},
      {.name = "final",
       .kind = FieldKind::number,
       .default_json = "null",
       .doc = "factor of the last step (linear, cosine, wsd); 0 if left out",
       .min = 0,
       .max = 1},
  };
  return fields;
}

Schedule::Schedule(const nlohmann::json& fields, std::int64_t horizon) : horizon_(horizon) {
  assert(horizon >= 1);
  const std::string type = fields.at("type").get<std::string>();
  type_ = type == "linear" ? Type::linear : type == "cosine" ? Type::cosine : type == "wsd" ? Type::wsd : Type::constant;
  warmup_ = fields.at("warmup").get<std::int64_t>();
  final_ = fields.value("final", 0.0);

  std::vector<Problem> problems;
  const auto complain = [&](std::string what, std::string allowed) {
    problems.push_back({{}, "schedule: " + std::move(what), std::move(allowed)});
  };
  if (type_ == Type::constant && fields.contains("final"))
    complain("'final' has no effect with type constant", "final with linear, cosine or wsd");
  if (type_ == Type::wsd && !fields.contains("decay"))
    complain("type wsd needs 'decay', the share of the horizon over which the factor falls", "a number in (0, 1], e.g. 0.4");
  if (type_ != Type::wsd && fields.contains("decay"))
    complain(fmt::format("'decay' has no effect with type {}", type), "decay with type wsd");
  if (type_ == Type::wsd) decay_ = std::llround(fields.value("decay", 0.0) * static_cast<double>(horizon));
  if (type_ == Type::wsd && fields.contains("decay") && decay_ == 0)
    complain(fmt::format("a decay over {} of a horizon of {} steps is less than half a step, so the factor never falls",
                         fields.at("decay").get<double>(), horizon),
             fmt::format("decay >= {:.6g}", 0.5 / static_cast<double>(horizon)));
  if (warmup_ > horizon)
    complain(fmt::format("warm-up of {} steps does not fit the horizon of {} steps", warmup_, horizon),
             fmt::format("warmup <= {}", horizon));
  else if (warmup_ + decay_ > horizon)
    complain(fmt::format("warm-up of {} and decay of {} steps do not fit the horizon of {} steps", warmup_, decay_, horizon),
             "warmup + decay * horizon <= horizon");
  if (!problems.empty()) throw UsageError(std::move(problems));
}

double Schedule::factor(std::int64_t step) const {
  assert(step >= 1 && step <= horizon_);
  const auto t = static_cast<double>(step), w = static_cast<double>(warmup_), T = static_cast<double>(horizon_);
  if (step <= warmup_) return t / w;
  const double s = (t - w) / (T - w);
  switch (type_) {
    case Type::constant:
      return 1.0;
    case Type::linear:
      return 1.0 + (final_ - 1.0) * s;
    case Type::cosine:
      return final_ + (1.0 - final_) * (1.0 + std::cos(std::numbers::pi * s)) / 2.0;
    case Type::wsd: {
      const std::int64_t into_decay = step - (horizon_ - decay_);
      return into_decay <= 0 ? 1.0 : 1.0 + (final_ - 1.0) * static_cast<double>(into_decay) / static_cast<double>(decay_);
    }
  }
  return 1.0;
}

}  // namespace equisweep
