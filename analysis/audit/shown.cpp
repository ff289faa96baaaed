#include "analysis/audit/shown.h"

#include <fmt/format.h>

#include "analysis/audit/audit.h"

namespace equisweep {

std::string cell_text(const Finding& finding) {
  const Cell& cell = finding.cell;
  if (finding.column == "scale" || finding.column == "fans") {
    if (!finding.claimed) return ".";
    if (finding.failed()) return cell.samples == 0 ? "NO SAMPLE" : fmt::format("FAILS {:.1g}", cell.error);
    return "ok";
  }
  if (cell.samples == 0) return finding.failed() ? "NO SAMPLE" : ".";
  const auto unclaimed = [&](std::string text) { return finding.claimed ? text : "(" + text + ")"; };
  switch (cell.verdict) {
    case Verdict::exact:
      return unclaimed("=");
    case Verdict::holds:
      return unclaimed(fmt::format("{:.1f}", cell.ratio));
    case Verdict::undecided:
      return finding.failed() ? "UNDECIDED" : unclaimed("?");
    case Verdict::inspect:
      return finding.claimed ? fmt::format("INSPECT {:.0f}", cell.ratio) : fmt::format("(R{:.0f})", cell.ratio);
    case Verdict::broken:
      return finding.claimed ? fmt::format("BROKEN {:.2g}", cell.error) : fmt::format("x{:.2g}", cell.error);
  }
  return "";
}

std::string cell_text(const ModelFinding& finding) {
  if (!(finding.loss_change <= kSameLoss)) return fmt::format("NO SYMMETRY {:.1g}", finding.loss_change);
  const bool kept = finding.cell.verdict == Verdict::exact || finding.cell.verdict == Verdict::holds;
  if (finding.must_fail && finding.failed()) return fmt::format("PASSES {:.1g}", finding.error);
  if (finding.claimed && finding.failed())
    return fmt::format("{} {:.2g}", finding.cell.verdict == Verdict::broken ? "BROKEN" : "INSPECT", finding.error);
  if (!kept) return fmt::format("{}{:.2g}", finding.must_fail ? "X" : "x", finding.error);
  const std::string text = finding.cell.verdict == Verdict::exact ? "=" : fmt::format("{:.1f}", finding.cell.ratio);
  return finding.claimed ? text : "(" + text + ")";
}

}  // namespace equisweep
