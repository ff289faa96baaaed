#pragma once
// Learning-rate schedules: a factor in [0, 1] that multiplies every learning rate of the stack.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "core/field.h"

namespace equisweep {

/// The fields of `schedule:` in a sweep file: type (constant | linear | cosine | wsd), warmup, decay, final.
std::span<const Field> schedule_fields();

/// Factor of update t = 1..T (T = horizon), w = warm-up steps, f = final factor, D = round(decay * T):
///   t <= w: t / w;   with s = (t - w) / (T - w):
///   constant 1;  linear 1 + (f - 1) s;  cosine f + (1 - f)(1 + cos(pi s)) / 2;
///   wsd      1 until t = T - D, then 1 + (f - 1)(t - (T - D)) / D.
class Schedule {
 public:
  /// `fields` is a complete object of schedule_fields(). Throws UsageError if warm-up and decay do not fit the horizon, or D
  /// is zero: a decay that was asked for would not take place.
  Schedule(const nlohmann::json& fields, std::int64_t horizon);
  double factor(std::int64_t step) const;

 private:
  enum class Type { constant, linear, cosine, wsd } type_ = Type::constant;
  std::int64_t horizon_ = 1, warmup_ = 0, decay_ = 0;
  double final_ = 0;
};

}  // namespace equisweep
