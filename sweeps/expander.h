#pragma once
// The points of a sweep and the jobs that they stand for; the inside of sweeps/plan.h.

#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sweeps/file/grid.h"
#include "sweeps/file/spec.h"
#include "sweeps/job.h"

namespace equisweep {

class Expander {
 public:
  /// Numbers of values: seed, model, stack, variant of the stack's own options, lr_scale.
  using Point = std::array<std::size_t, 5>;

  /// All jobs of a point, which differ in their seed alone.
  struct Cell {
    Job job;                    ///< without seed and id
    std::string before, after;  ///< canonical text of the config around the value of the seed
    std::string id(std::int64_t seed) const;
    Job with_seed(std::int64_t seed) const;
  };

  explicit Expander(const SweepSpec& spec) : spec_(spec), values_(axis_values(spec.grid)) {}

  /// Every point of the grid, sorted. Throws UsageError where a combination of options is refused, and where `exclude` or
  /// `include` changes nothing.
  std::vector<Point> points();

  /// The cell of a point whose lr_scale and own learning rates (the axes that end in ".lr") are those given. Throws
  /// UsageError where a learning rate leaves the range of a double, or is too high for the weight decay beside it.
  Cell cell(const Point& point, double lr_scale, const nlohmann::json& axes);

  const AxisValues& values() const { return values_; }
  /// Values of the stack's own axes at a point.
  const nlohmann::json& axes(const Point& p) { return variants(p[1], p[2])[p[3]].axes; }

 private:
  struct Variant {
    nlohmann::json stack = nlohmann::json::object();  ///< complete entries by name, lr unscaled; those with weights alone
    nlohmann::json axes = nlohmann::json::object();
  };
  struct Range;

  const std::vector<Variant>& variants(std::size_t model, std::size_t stack);
  const ModelSpec& model_spec(std::size_t i) const;
  const StackSpec& stack_spec(std::size_t i) const;
  void add_points(const Selection& own, const Range& range);
  bool selects(const Selection& selection, const Point& p);
  void sort_points(std::size_t sorted);  ///< of which so many at the beginning are sorted already

  const SweepSpec& spec_;
  const AxisValues values_;
  std::map<std::pair<std::size_t, std::size_t>, std::vector<Variant>> variants_;
  std::map<std::size_t, std::map<std::string, std::string>> texts_;  ///< by model: canonical text of the keys but `stack`
  std::vector<Point> points_;
};

}  // namespace equisweep
