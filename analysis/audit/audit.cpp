#include "analysis/audit/audit.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

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

std::vector<Finding> audit(const std::vector<AuditSubject>& subjects, const AuditOptions& options) {
  // Each subject in each precision is a task of one thread; products are single-threaded, so that the bits do not depend on
  // the number of threads.
  const int threads_before = at::get_num_threads();
  at::set_num_threads(1);
  std::vector<std::vector<Finding>> results(subjects.size() * options.precisions.size());
  std::exception_ptr error;
  std::mutex error_mutex;
  for (std::size_t p = 0; p < options.precisions.size(); ++p) {
    const at::ScalarType dtype = options.precisions[p];
    const std::vector<Stage> stages = make_stages(dtype, options);
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
      at::set_num_threads(1);
      for (std::size_t i = next++; i < subjects.size(); i = next++) try {
          std::vector<Finding>& result = results[p * subjects.size() + i];
          result = audit_subject(subjects[i], stages);
          if (subjects[i].through_views)
            for (Finding& finding : audit_views(subjects[i], dtype, options)) result.push_back(std::move(finding));
          for (Finding& finding : result) finding.must_decide = first_cast(subjects[i], dtype) <= unit_roundoff(at::kFloat);
        } catch (...) {
          const std::lock_guard lock(error_mutex);
          error = std::current_exception();
        }
    };
    std::vector<std::jthread> others;
    for (std::int64_t i = 1; i < options.threads; ++i) others.emplace_back(work);
    work();
  }
  at::set_num_threads(threads_before);
  if (error) std::rethrow_exception(error);
  std::vector<Finding> findings;
  for (auto& result : results)
    for (Finding& finding : result) findings.push_back(std::move(finding));
  return findings;
}

}  // namespace equisweep
