#include "analysis/audit/statistic.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace equisweep {

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::exact:
      return "exact";
    case Verdict::holds:
      return "holds";
    case Verdict::undecided:
      return "undecided";
    case Verdict::inspect:
      return "inspect";
    case Verdict::broken:
      return "broken";
  }
  TORCH_CHECK(false, "not a verdict");
}

double unit_roundoff(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return 0x1p-53;
    case at::kFloat:
      return 0x1p-24;
    case at::kHalf:
      return 0x1p-11;
    case at::kBFloat16:
      return 0x1p-9;
    default:
      TORCH_CHECK(false, "no unit roundoff is known for ", dtype);
  }
}

void Tally::add(const at::Tensor& error, const at::Tensor& floor, const std::function<std::string(std::int64_t)>& place) {
  const at::Tensor errors = error.contiguous(), floors = floor.expand_as(error).contiguous();
  const double* const e = errors.const_data_ptr<double>();
  const double* const f = floors.const_data_ptr<double>();
  for (std::int64_t i = 0; i < errors.numel(); ++i) {
    if (std::isnan(e[i])) continue;
    const bool finite = std::isfinite(e[i]) && std::isfinite(f[i]);
    const double ratio = !finite ? std::numeric_limits<double>::infinity() : e[i] == 0 ? 0 : e[i] / f[i];
    any_error_ = any_error_ || !finite || e[i] != 0;
    const bool decides = !finite || f[i] <= kDecidingFloor;
    if (decides) worst_.least_error = worst_.decided == 0 ? e[i] : std::min(worst_.least_error, e[i]);
    // The first sample that decides takes the place of any that does not.
    if (worst_.samples == 0 || (decides && worst_.decided == 0) ||
        (decides == (worst_.decided > 0) && ratio > worst_.ratio)) {
      worst_.error = e[i];
      worst_.floor = f[i];
      worst_.ratio = ratio;
      worst_.worst = place(i);
    }
    ++worst_.samples;
    worst_.decided += decides ? 1 : 0;
  }
}

Cell Tally::judge(std::int64_t elements) const {
  Cell cell = worst_;
  cell.elements = elements;
  if (cell.samples > 0 && !any_error_) {
    cell.verdict = Verdict::exact;
  } else if (cell.decided == 0) {
    cell.verdict = Verdict::undecided;
  } else if (cell.ratio > kBrokenAbove) {
    cell.verdict = Verdict::broken;
  } else if (cell.ratio >= kHoldsBelow) {
    cell.verdict = Verdict::inspect;
  } else {
    cell.verdict = Verdict::holds;
  }
  return cell;
}

at::Tensor relative_errors(const at::Tensor& a, const at::Tensor& b, std::int64_t axes) {
  std::vector<std::int64_t> last(static_cast<std::size_t>(axes));
  std::iota(last.begin(), last.end(), -axes);
  const at::Tensor wide_a = a.to(at::kDouble), wide_b = b.to(at::kDouble);
  const at::Tensor difference = at::linalg_vector_norm(wide_a - wide_b, 2, last),
                   size = at::linalg_vector_norm(wide_b, 2, last);
  const at::Tensor infinite = at::full({}, std::numeric_limits<double>::infinity(), at::kDouble);
  const at::Tensor ratio = at::where(at::isfinite(difference), difference / size, infinite);
  // 0 / 0 is the only NaN that is left.
  return ratio;
}

}  // namespace equisweep
