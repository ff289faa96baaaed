#include "analysis/audit/audit.h"

#include <ATen/ATen.h>

#include "analysis/audit/on_device.h"
#include "analysis/audit/parallel.h"
#include "analysis/audit/probes.h"

namespace equisweep {
namespace {

std::vector<Stage> make_stages(at::ScalarType dtype, const AuditOptions& options) {
  return {make_stage("tall", 14, 6, dtype, options), make_stage("wide", 6, 14, dtype, options),
          make_stage("square", 9, 9, dtype, options), make_stage("row", 1, 12, dtype, options),
          make_stage("column", 12, 1, dtype, options)};
}

}  // namespace

std::vector<Finding> audit_subject(const AuditSubject& subject, const std::vector<Stage>& stages) {
  std::vector<Finding> findings;
  std::vector<std::string_view> columns;
  for (const Orbit& orbit : stages.at(0).orbits) columns.push_back(orbit.column);
  columns.insert(columns.end(), {"shift.horizontal", "shift.invariant"});
  std::vector<Tally> tallies(columns.size());
  for (const Stage& stage : stages) climb(subject, stage, tallies);
  for (std::size_t i = 0; i < columns.size(); ++i)
    findings.push_back({.subject = subject.name,
                        .precision = std::string(name_of_precision(stages[0].dtype())),
                        .column = std::string(columns[i]),
                        .view = "",
                        .claimed = claims(claim_of(subject), columns[i]),
                        .cell = tallies[i].judge(columns[i] == "shift.horizontal" ? 1 : stages[0].elements),
                        .note = ""});
  for (Finding& finding : audit_properties(subject, stages[0])) findings.push_back(std::move(finding));
  return findings;
}

std::vector<Finding> audit(const std::vector<AuditSubject>& given, const AuditOptions& options) {
  std::vector<AuditSubject> subjects = given;
  for (AuditSubject& subject : subjects) subject.rule = on_device(subject.rule, options.device);
  std::vector<std::vector<Stage>> stages(options.precisions.size());
  parallel_for_each(stages.size(), options.threads,
                    [&](std::size_t i) { stages[i] = make_stages(options.precisions[i], options); });
  std::vector<std::vector<Finding>> results(subjects.size() * options.precisions.size());
  parallel_for_each(results.size(), options.threads, [&](std::size_t i) {
    const AuditSubject& subject = subjects[i % subjects.size()];
    const at::ScalarType dtype = options.precisions[i / subjects.size()];
    results[i] = audit_subject(subject, stages[i / subjects.size()]);
    if (subject.through_views)
      for (Finding& finding : audit_views(subject, dtype, options)) results[i].push_back(std::move(finding));
    for (Finding& finding : results[i]) finding.must_decide = first_cast(subject, dtype) <= unit_roundoff(at::kFloat);
  });
  std::vector<Finding> findings;
  for (auto& result : results)
    for (Finding& finding : result) findings.push_back(std::move(finding));
  return findings;
}

}  // namespace equisweep
