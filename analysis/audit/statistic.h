#pragma once
// The statistic of an audit: how far an update rule is from commuting with a group element, in units of its own rounding.
//
//   error  e = ||Phi(gS, gG) - g Phi(S, G)||_F / ||Phi(S, G)||_F
//   floor  f = max over draws of ||Phi(S o (1 + u r)) - Phi(S, G)||_F / ||Phi(S, G)||_F,  r uniform in [-1, 1], and at least
//              u / 2, u the unit roundoff of the first cast
//   ratio  R = e / f
//
// follow.h and probes.h say which draws there are, docs/audit.md why.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace equisweep {

enum class Verdict {
  exact,      ///< e = 0 in every sample
  holds,      ///< R < 5
  undecided,  ///< no sample decides: every floor is so high that a break would not show
  inspect,    ///< 5 <= R <= 30
  broken,     ///< R > 30, or an error or floor that is not finite
};

std::string_view name_of(Verdict verdict);

inline constexpr double kHoldsBelow = 5, kBrokenAbove = 30;

/// A sample decides if an error of 100% would be called broken: f <= 1 / 30. One that does not decides neither for nor
/// against: the verdict is that of the others.
inline constexpr double kDecidingFloor = 1 / kBrokenAbove;

/// Unit roundoff of a dtype, as audit.md counts it: 2^-53, 2^-24, 2^-11 (fp16), 2^-9 (bf16).
double unit_roundoff(at::ScalarType dtype);

/// One cell of the matrix: the worst over shapes, inputs and group elements.
struct Cell {
  Verdict verdict = Verdict::undecided;
  double error = 0, floor = 0, ratio = 0;  ///< of the worst sample that decides, if one does; the ratio may be infinite
  std::int64_t elements = 0;               ///< group elements tried on each input
  std::int64_t samples = 0, decided = 0;   ///< samples with a direction, and those that decide
  double least_error = 0;                  ///< the smallest error of a deciding sample: what a control must exceed
  std::string worst;                       ///< shape, input and number of the group element of the worst sample
};

/// Collects samples and judges them.
class Tally {
 public:
  /// `error` and `floor`: the same shape, double. `place(i)` names the i-th sample. A direction that is 0 in both runs is no
  /// sample: its error is NaN (see relative_errors()). Any other number that is not finite, also of the floor alone,
  /// decides, and convicts: no right rule returns one for a gradient that is finite.
  void add(const at::Tensor& error, const at::Tensor& floor, const std::function<std::string(std::int64_t)>& place);
  Cell judge(std::int64_t elements) const;

 private:
  Cell worst_;
  bool any_error_ = false;
};

/// ||a - b|| / ||b|| over the last `axes` axes, in double; 0 / 0 is NaN ("no sample"), x / 0 is infinite, and so is anything
/// that is not finite.
at::Tensor relative_errors(const at::Tensor& a, const at::Tensor& b, std::int64_t axes);

}  // namespace equisweep
